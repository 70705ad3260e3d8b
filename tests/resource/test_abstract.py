"""What an abstract base or a mixin declares is a machine of its own for each class made of it."""

from enum import StrEnum

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    JobContext,
    JobState,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
    transition,
)
from statejobs.declare.registry import Registry
from statejobs.errors import DefinitionError
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import close_app


class S(StrEnum):
    OPEN = "open"
    QUEUED = "queued"
    DONE = "done"


ran = []


def family(form):
    """A base that declares a machine, in one of the forms that such a base can have."""

    class Base(DeclarativeBase): ...

    class Declared:
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[S] = state_column(S, initial=S.OPEN)
        work = Trigger.on_demand("{resource}.work")

        @transition(S.OPEN, S.QUEUED, run_trigger=work)
        def submit(self) -> None: ...

        @work.action(S.QUEUED, S.DONE)
        def run(self, ctx: JobContext) -> None:
            ran.append((type(self).__name__, self.id))

    match form:
        case "abstract":

            class Work(Declared, StatefulResource, Base):
                __abstract__ = True

            bases = (Work,)
        case "mixin":

            class Mixin(Declared, StatefulResource): ...

            bases = (Mixin, Base)
        case _:

            class Outer(StatefulResource, Base):
                __abstract__ = True

            class Inner(Declared, Outer):
                __abstract__ = True

            bases = (Inner,)
    return Base, bases


@pytest.fixture(params=["abstract", "mixin", "abstract twice"])
def made(request):
    """The base, and two classes with a table each."""
    _, bases = family(request.param)
    order = type("Order", bases, {"__tablename__": "orders", "__module__": __name__})
    bill = type("Bill", bases, {"__tablename__": "bills", "__module__": __name__})
    ran.clear()
    return bases[0], order, bill


def test_each_class_is_a_resource_of_its_own(database_url, made):
    _, order, bill = made
    app = StateJobs(
        database_url,
        domains=[Domain("work", resources=[order, bill])],
        sources=manual_sources(ManualClock()),
    )
    app.create_all()
    try:
        with app.session() as session:
            for kind in (order, bill):  # both have the key 1
                record = kind()
                session.add(record)
                record.submit()
            session.commit()
        app.drain()

        assert sorted(ran) == [("Bill", 1), ("Order", 1)]
        for name in ("Order", "Bill"):
            (job,) = app.queries.jobs(resource=name, record_id="1")
            assert (job.state, job.key) == (JobState.COMPLETED, f"{name.lower()}.work")
            assert len(app.queries.transitions(name, "1")) == 3
    finally:
        close_app(app)


@pytest.mark.parametrize("form", ["abstract", "abstract twice"])
def test_a_name_that_one_of_them_gives_itself_is_its_own(form):
    _, (work,) = family(form)

    class Named(work):
        __tablename__ = "named"
        __resource__ = "Letter"

    class Other(work):
        __tablename__ = "others"

    assert (Named.__statejobs__.name, Other.__statejobs__.name) == ("Letter", "Other")
    assert list(Named.__statejobs__.triggers) == ["letter.work"]
    assert Named.__machine__.triggers[0].options.key == "letter.work"


def test_a_subclass_of_one_with_records_has_its_name_also_below_an_abstract_class():
    _, (work,) = family("abstract")

    class Order(work):
        __tablename__ = "orders"
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "order"}  # noqa: RUF012

    class Special(Order):
        __abstract__ = True

    class Rush(Special):
        __mapper_args__ = {"polymorphic_identity": "rush"}  # noqa: RUF012

    registry = Registry([Domain("work", resources=[Order])])

    assert Rush.__statejobs__.name == Order.__statejobs__.name == "Order"
    assert list(registry.resources) == ["Order"]


def test_a_domain_says_what_to_list_in_the_place_of_an_abstract_class(made):
    with pytest.raises(DefinitionError, match="list what is made of it: Order, Bill"):
        Domain("work", resources=[made[0]])

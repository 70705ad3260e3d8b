"""What could not be stored, read or moved is refused when the class is made."""

from enum import StrEnum

import pytest
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    declared_attr,
    mapped_column,
)

from statejobs import (
    DefinitionError,
    JobContext,
    StatefulResource,
    Trigger,
    state_column,
    transition,
)
from tests.support.shop import read_history, read_jobs, shop_engine


def states(queued="queued"):
    members = {"NEW": "new", "QUEUED": queued, "RUNNING": "running", "DONE": "done"}
    return StrEnum("S", {**members, "FAILED": "failed"})


def order_class(
    *, of=None, name="Order", action="pay", key="order.pay", body=None, **column
):
    """Return the base, and an order of which one name is given."""

    class Base(DeclarativeBase): ...

    enum = of or states()
    charge = Trigger.on_demand(key, max_attempts=1)

    def submit(self): ...
    def pay(self, ctx: JobContext): ...

    pay.__name__ = pay.__qualname__ = action
    performs = charge.action(
        enum.QUEUED, enum.DONE, during=enum.RUNNING, failed=enum.FAILED
    )
    declared = {
        "__tablename__": "orders",
        "__annotations__": {"id": Mapped[int], "state": Mapped[enum]},
        "id": mapped_column(primary_key=True),
        "state": state_column(enum, initial=enum.NEW, **column),
        "charge": charge,
        "submit": transition(enum.NEW, enum.QUEUED, run_trigger=charge)(body or submit),
        action: performs(pay),
    }
    return Base, type(name, (StatefulResource, Base), declared)


class Nameless:
    """It has a name, and no qualified one."""

    __name__ = "submit"

    def __call__(self, record): ...


REFUSED = {
    "state": (
        {"of": states("x" * 101)},
        "its state 'x.*'… has 101 characters; 100 can be stored",
    ),
    "NUL": ({"of": states("a\0b")}, "its state .* has the character NUL"),
    "surrogate": ({"of": states("\ud800")}, "its state .* has half a character"),
    "action": (
        {"action": "p" * 195},
        "the edge 'p.*'… has 201 characters; 200 can be stored",
    ),
    "class": (
        {"name": "N" * 201},
        "its name 'N.*'… has 201 characters; 200 can be stored",
    ),
    "key": (
        {"name": "N" * 150, "key": "{resource}." + "k" * 100},
        "the key 'n.*'… has 251 characters; 200 can be stored",
    ),
    "deleted": ({"of": states("(deleted)")}, r"a state is called '\(deleted\)'"),
    "callable": (
        {"body": Nameless()},
        "@transition is put on a Nameless, not on a method",
    ),
    "default": ({"default": "new"}, "default= is not yours to set"),
    "onupdate": ({"onupdate": "done"}, "onupdate= is not yours to set"),
    "server_onupdate": (
        {"server_onupdate": "done"},
        "server_onupdate= is not yours to set",
    ),
    "raiseload": (
        {"deferred": True, "deferred_raiseload": True},
        "deferred_raiseload= is not yours to set",
    ),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_a_name_that_cannot_be_stored_is_refused(given, message):
    with pytest.raises(DefinitionError, match=message):
        order_class(**given)


LONGEST = {
    "state": {"of": states("ä" * 100)},
    "action": {"action": "p" * 191},  # and ".complete"
    "class": {"name": "N" * 200},
    "deferred": {"deferred": True},
}


@pytest.mark.parametrize("given", LONGEST.values(), ids=LONGEST)
def test_the_longest_name_is_stored(database_url, given):
    base, order = order_class(**given)
    with shop_engine(database_url, base) as engine, Session(engine) as session:
        session.add(record := order(id=1))
        record.submit()
        session.commit()

        assert len(read_history(engine)) == 2
        assert [job.state for job in read_jobs(engine)] == ["queued"]


def test_a_state_behind_declared_attr_is_told_so():
    enum = states()

    class Base(DeclarativeBase): ...

    class Machine:
        @declared_attr
        def state(cls) -> Mapped[str]:  # noqa: N805
            return state_column(enum, initial=enum.NEW)

    with pytest.raises(DefinitionError, match="its state column 'state' is behind"):

        class Order(StatefulResource, Machine, Base):
            __tablename__ = "orders"
            id: Mapped[int] = mapped_column(primary_key=True)

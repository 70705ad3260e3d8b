"""What a trigger names under `load=` is there when its action begins, fresh and with one query."""

from enum import StrEnum
from types import SimpleNamespace

import pytest
from sqlalchemy import ForeignKey, event, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

from statejobs import (
    AsyncJobContext,
    ChunkContext,
    DefinitionError,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    WrongValueError,
    state_column,
    transition,
)
from statejobs.runner.drain import step
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import run_async, run_together


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    NEW = "new"
    DONE = "done"
    GONE = "gone"


script = SimpleNamespace()
"""What the bodies do with their records: `script.body = lambda baskets: …`."""


class Shopper(Base):
    __tablename__ = "shoppers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Fruit(Base):
    __tablename__ = "fruits"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    basket_id: Mapped[int] = mapped_column(ForeignKey("baskets.id"))


class Loads:
    """A mixin: what its trigger loads is of whichever class has it."""

    pack = Trigger.on_demand(
        "{resource}.pack",
        load=lambda cls: [selectinload(cls.fruits), joinedload(cls.shopper)],
    )


class Basket(Loads, StatefulResource, Base):
    __tablename__ = "baskets"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None]
    shopper_id: Mapped[int | None] = mapped_column(ForeignKey("shoppers.id"))
    shopper: Mapped[Shopper | None] = relationship(lazy="raise")
    fruits: Mapped[list[Fruit]] = relationship(lazy="raise", order_by=Fruit.id)
    state: Mapped[S] = state_column(S, initial=S.NEW)

    pay = Trigger.on_demand("basket.pay", load=lambda cls: selectinload(cls.fruits))
    weigh = Trigger.on_demand("basket.weigh", load=lambda cls: selectinload(cls.fruits))
    count = Trigger.on_demand(
        "basket.count", load=lambda cls: selectinload(cls.fruits), chunk=10
    )
    bare = Trigger.on_demand("basket.bare")

    @Loads.pack.action(S.NEW, S.DONE)
    def wrap(self, ctx: JobContext) -> None:
        script.body([self])

    @pay.action(S.NEW, S.DONE)
    async def charge(self, ctx: AsyncJobContext) -> None:
        script.body([self])

    @weigh.action(S.NEW, S.DONE, atomic=True)
    def put_on_scale(self, ctx: JobContext) -> None:
        script.body([self])

    @count.action(S.NEW, S.DONE)
    @staticmethod
    def count_all(baskets: list["Basket"], ctx: ChunkContext) -> None:
        script.body(baskets)

    @bare.action(S.NEW, S.DONE)
    def touch(self, ctx: JobContext) -> None:
        script.body([self])

    @transition(S.NEW, S.GONE)
    def steal(self) -> None: ...


FORMS = [Basket.wrap, Basket.charge, Basket.put_on_scale, Basket.count_all]


@pytest.fixture
def app(database_url):
    script.body = lambda _baskets: None
    with StateJobs(
        database_url,
        domains=[Domain("market", resources=[Basket])],
        sources=manual_sources(ManualClock()),
    ) as app:
        app.create_all()
        yield app


def fill(app, action, number=1):
    """Commit baskets with a shopper and two fruits each, and a job of *action* for each."""
    with app.session() as session:
        shopper = Shopper(name="Ada")
        baskets = [
            Basket(shopper=shopper, fruits=[Fruit(name="fig"), Fruit(name="pear")])
            for _ in range(number)
        ]
        session.add_all(baskets)
        session.flush()
        action.enqueue_many(session, baskets)
        session.commit()
        return [basket.id for basket in baskets]


def states(app):
    return [job.state.value for job in app.queries.jobs()]


def run(app, claims):
    """Run claims that share a call, or the one that there is, as a worker does."""
    if claims[0].policy.is_async:
        return [run_async(app, claim) for claim in claims]
    return run_together(app.runner(), claims)


@pytest.mark.parametrize("action", FORMS, ids=lambda action: action.name)
def test_an_action_of_any_form_finds_what_is_named(app, action):
    names = []
    script.body = lambda baskets: names.extend(
        [fruit.name for basket in baskets for fruit in basket.fruits]
    )
    fill(app, action, 2)

    app.drain()

    assert names == ["fig", "pear"] * 2
    assert states(app) == ["completed"] * 2


def test_several_options_hold_together_in_a_mixin(app):
    found = []
    script.body = lambda baskets: found.append(baskets[0].shopper.name)
    fill(app, Basket.wrap)

    app.drain()

    assert found == ["Ada"]


@pytest.mark.parametrize("number", [1, 3])
def test_atomic_actions_that_share_a_transaction_find_it_too(app, number):
    found = []
    script.body = lambda baskets: found.append(len(baskets[0].fruits))
    fill(app, Basket.put_on_scale, number)
    claims = app.runner().claim("default", limit=number)

    ended = run_together(app.runner(), claims)

    assert [one.outcome for one in ended] == ["complete"] * number
    assert found == [2] * number


@pytest.mark.parametrize("action", FORMS, ids=lambda action: action.name)
def test_the_record_is_as_it_is_then_not_as_it_was_claimed(app, action):
    notes = []
    script.body = lambda baskets: notes.extend(basket.note for basket in baskets)
    (key,) = fill(app, action)
    claims = app.runner().claim("default", limit=1)
    with app.engine.begin() as connection:
        changed = update(Basket).where(Basket.id == key).values(note="ripe")
        connection.execute(changed)

    run(app, claims)

    assert notes == ["ripe"]
    assert states(app) == ["completed"]


@pytest.mark.parametrize("action", FORMS, ids=lambda action: action.name)
def test_a_record_that_was_moved_since_its_claim_is_not_worked_on(app, action):
    called = []
    script.body = called.append
    (key,) = fill(app, action)
    claims = app.runner().claim("default", limit=1)
    with app.session() as session:
        session.get_one(Basket, key).steal()
        session.commit()

    run(app, claims)

    assert called == []
    (job,) = app.queries.jobs()
    assert (job.state.value, job.outcome.value) == ("cancelled", "superseded")


def test_one_of_many_that_was_moved_keeps_none_of_the_others_from_its_call(app):
    called = []
    script.body = lambda baskets: called.extend(basket.id for basket in baskets)
    first, *others = fill(app, Basket.count_all, 3)
    claims = app.runner().claim("default", limit=3)
    with app.session() as session:
        session.get_one(Basket, first).steal()
        session.commit()

    run_together(app.runner(), claims)

    assert sorted(called) == others
    assert sorted(states(app)) == ["cancelled", "completed", "completed"]


def test_what_an_action_changes_is_kept(app):
    def body(baskets):
        baskets[0].note = "sold"
        baskets[0].fruits[0].name = "dried fig"

    script.body = body
    (key,) = fill(app, Basket.wrap)

    app.drain()

    with app.session() as session:
        basket = session.get_one(Basket, key, options=[selectinload(Basket.fruits)])
        assert basket.note == "sold"
        assert [fruit.name for fruit in basket.fruits] == ["dried fig", "pear"]


def queries_of_a_step(app, action):
    """The statements that read baskets or fruits while one job runs."""
    fill(app, action)
    sent = []

    def note(_conn, _cursor, statement, *_more):
        if statement.startswith("SELECT") and "FOR " not in statement.upper()[-40:]:
            sent.append(statement)

    with app._workers.here() as (runner, loop):
        claimed = []
        event.listen(app.store.working, "before_cursor_execute", note)
        claimed = step(runner, ["default"], loop, 1)
        event.remove(app.store.working, "before_cursor_execute", note)
    assert len(claimed) == 1
    return sent


def test_without_it_a_job_costs_no_query_and_with_it_one_for_each_relationship(app):
    app.drain()
    bare = queries_of_a_step(app, Basket.touch)
    loaded = queries_of_a_step(app, Basket.wrap)

    assert len(loaded) == len(bare) + 2  # the record with its shopper; its fruits
    assert not any("fruits" in statement for statement in bare)


def test_a_call_for_many_loads_them_with_as_many_queries_as_one(app):
    one = queries_of_a_step(app, Basket.count_all)
    fill(app, Basket.count_all, 5)
    claims = app.runner().claim("default", limit=5)
    sent = []
    event.listen(
        app.store.working, "before_cursor_execute", lambda *told: sent.append(told[2])
    )

    run_together(app.runner(), claims)

    assert len([text for text in sent if "FROM fruits" in text]) == 1
    assert len([text for text in one if "FROM fruits" in text]) == 1


@pytest.mark.parametrize(
    ("load", "says"),
    [
        ("fruits", "load= cannot be used: 'fruits' is no loader option"),
        ([1], "load= cannot be used: 1 is no loader option"),
        (
            lambda: [selectinload(Basket.fruits)],
            "load= cannot be called: too many positional arguments",
        ),
    ],
)
def test_what_is_no_loader_option_is_refused_where_it_is_given(load, says):
    with pytest.raises((DefinitionError, WrongValueError)) as refused:
        Trigger.on_demand("a.b", load=load)

    assert str(refused.value).splitlines()[0] == f"trigger 'a.b': {says}"


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (lambda cls: cls.fruit, "AttributeError: type object 'Crate' has no attribute"),
        (lambda _cls: selectinload(Basket.fruits), "does not"),
        (lambda _cls: 5, "5 is no loader option"),
        (selectinload, "expected ORM mapped attribute"),
    ],
)
def test_what_does_not_fit_the_class_is_refused_when_the_app_is_made(
    database_url, load, says
):
    class Root(DeclarativeBase): ...

    class Crate(StatefulResource, Root):
        __tablename__ = "crates"
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[S] = state_column(S, initial=S.NEW)
        pack = Trigger.on_demand("crate.pack", load=load)

        @pack.action(S.NEW, S.DONE)
        def wrap(self, ctx: JobContext) -> None: ...

    with pytest.raises(DefinitionError) as refused:
        StateJobs(database_url, domains=[Domain("d", resources=[Crate])])

    what, why, fix = str(refused.value).splitlines()
    assert what.startswith("Crate.pack: its load= cannot be used: ")
    assert says in what
    assert why == "  why: it says what is loaded with each Crate when an attempt begins"
    assert fix == "  fix: load=lambda cls: selectinload(cls.lines)"

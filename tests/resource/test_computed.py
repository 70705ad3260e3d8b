"""Columns that change along with the state of a record are shown as they are stored."""

import asyncio
import itertools

import pytest
from sqlalchemy import Computed, FetchedValue, func, select, text, true
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import StatefulResource, configure_sqlite, state_column, transition
from statejobs.store.engines.factory import ASYNC_DRIVERS
from tests.resource.support import Step, statements_on
from tests.support.shop import shop_engine

numbers = itertools.count(1)


class Base(DeclarativeBase):
    """The user's base."""


class Plan(StatefulResource, Base):
    """With every kind of column that changes by itself."""

    __tablename__ = "plans"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="a")
    edits: Mapped[int] = mapped_column(default=0, onupdate=lambda: next(numbers))
    mark: Mapped[str] = mapped_column(default="new", onupdate="edited")
    width: Mapped[int] = mapped_column(default=0, onupdate=func.length("four"))
    is_open: Mapped[int] = mapped_column(
        Computed("CASE WHEN state = 'new' THEN 1 ELSE 0 END", persisted=True)
    )
    seen: Mapped[int] = mapped_column(
        default=0, onupdate=func.length("three"), deferred=True
    )
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)

    @transition(Step.NEW, Step.QUEUED)
    def plan(self) -> None: ...

    @transition(Step.QUEUED, Step.DONE)
    def end(self, name: str) -> None:
        self.name = name


class Pair(StatefulResource, Base):
    """With a key of two columns."""

    __tablename__ = "pairs"

    left: Mapped[int] = mapped_column(primary_key=True)
    right: Mapped[str] = mapped_column(primary_key=True)
    touched: Mapped[int] = mapped_column(default=0, server_onupdate=FetchedValue())
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)

    @transition(Step.NEW, Step.QUEUED)
    def plan(self) -> None: ...


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


SHOWN = ("edits", "mark", "width", "is_open", "name", "state")


def shown(record):
    """What a record shows, without asking the database."""
    return {name: vars(record).get(name) for name in SHOWN}


def stored(engine, key):
    with Session(engine) as session:
        return shown(session.get_one(Plan, key))


@pytest.mark.parametrize("number", [1, 3])
def test_a_move_shows_what_is_stored(engine, number):
    with Session(engine, expire_on_commit=False) as session:
        session.add_all(plans := [Plan() for _ in range(number)])
        session.commit()
        for plan in plans:
            session.refresh(plan)
            plan.plan()
        session.commit()

        for plan in plans:
            assert shown(plan) == stored(engine, plan.id)
            assert (plan.is_open, plan.mark, plan.width) == (0, "edited", 4)


def test_a_move_beside_edits_shows_what_is_stored(engine):
    with Session(engine, expire_on_commit=False) as session:
        session.add(plan := Plan())
        session.commit()
        plan.plan()
        plan.edits = 1_000_000
        session.flush()
        plan.end("b")
        session.commit()
        session.refresh(plan, ["width", "is_open"])  # the unit of work has expired them

        assert shown(plan) == stored(engine, plan.id)
        assert plan.name == "b"


def test_what_was_assigned_is_written(engine):
    with Session(engine, expire_on_commit=False) as session:
        session.add(plan := Plan())
        session.commit()
        plan.plan()
        plan.mark = "mine"
        session.commit()

        assert (plan.mark, stored(engine, plan.id)["mark"]) == ("mine", "mine")


def test_many_are_asked_for_with_one_query(engine):
    with Session(engine, expire_on_commit=False) as session:
        session.add_all(plans := [Plan() for _ in range(50)])
        session.commit()
        for plan in plans:
            session.refresh(plan)
            plan.plan()
        with statements_on(engine) as count:
            session.commit()

        assert count("SELECT plans") == 1


def test_what_is_not_loaded_is_not_asked_for(engine):
    with Session(engine) as session:
        session.add(Plan())
        session.commit()
        plan = session.scalars(select(Plan)).one()
        session.expire(plan, ["width", "is_open"])
        plan.plan()
        with statements_on(engine) as count:
            session.flush()

        assert count("SELECT plans") == 0
        assert "seen" not in vars(plan)
        assert plan.is_open == 0


def test_a_bulk_move_shows_what_is_stored(engine):
    with Session(engine, expire_on_commit=False) as session:
        session.add(plan := Plan())
        session.commit()
        session.refresh(plan)
        Plan.plan.bulk(session, where=true())
        session.commit()

        assert (plan.is_open, plan.mark, plan.width) == (0, "edited", 4)


def test_what_a_trigger_of_the_database_writes_is_shown(engine):
    with Session(engine, expire_on_commit=False) as session:
        session.add_all(pairs := [Pair(left=n, right=str(n)) for n in range(2)])
        session.commit()
        let_a_trigger_touch(engine)
        for pair in pairs:
            session.refresh(pair)
            pair.plan()
        session.commit()

        assert [vars(pair)["touched"] for pair in pairs] == [7, 7]


def let_a_trigger_touch(engine):
    if engine.dialect.name == "sqlite":
        statements = [
            "CREATE TRIGGER touch AFTER UPDATE OF state ON pairs BEGIN "
            "UPDATE pairs SET touched = 7 WHERE left = NEW.left AND right = NEW.right; END"
        ]
    else:
        statements = [
            "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN NEW.touched := 7; RETURN NEW; END'",
            "CREATE TRIGGER touch BEFORE UPDATE ON pairs FOR EACH ROW EXECUTE FUNCTION touch()",
        ]
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_an_async_session_needs_no_io_to_show_it(engine):
    async def move():
        opened = create_async_engine(
            engine.url.set(drivername=ASYNC_DRIVERS[engine.dialect.name])
        )
        if engine.dialect.name == "sqlite":
            configure_sqlite(opened.sync_engine)
        async with AsyncSession(opened, expire_on_commit=False) as session:
            session.add(plan := Plan())
            await session.commit()
            await session.refresh(plan)
            plan.plan()
            await session.commit()
            found = plan.is_open, plan.mark, plan.width
        await opened.dispose()
        return found

    assert asyncio.run(move()) == (0, "edited", 4)

"""A value that is too long for its column is refused, and never cut off."""

from enum import StrEnum

import pytest
from sqlalchemy import CHAR, String, TypeDecorator, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    ChunkContext,
    Domain,
    JobContext,
    JobState,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
)
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import close_app, enqueue

pytestmark = [
    pytest.mark.postgres,  # SQLite knows no length
    pytest.mark.parametrize("database_url", ["postgres"], indirect=True),
]


class Base(DeclarativeBase): ...


class Shout(TypeDecorator[str]):
    """A type of the user's, over one with a length."""

    impl = String(5)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return value and value.upper()


class S(StrEnum):
    NEW = "new"
    DONE = "done"
    LOST = "lost"


WANTED = {}
"""What the action of many records writes: column → value."""


class Common:
    plain: Mapped[str | None] = mapped_column(String(5))
    padded: Mapped[str | None] = mapped_column(CHAR(5))
    shouted: Mapped[str | None] = mapped_column(Shout)
    state: Mapped[S] = state_column(S, initial=S.NEW, final=(S.DONE,))


class Plain(Common, StatefulResource, Base):
    __tablename__ = "long_plains"
    id: Mapped[int] = mapped_column(primary_key=True)
    work = Trigger.on_demand("long_plain.work", max_attempts=1)

    @work.action(S.NEW, S.DONE, failed=S.LOST)
    def act(self, ctx: JobContext, column: str, value: str) -> None:
        setattr(self, column, value)


class Awaited(Common, StatefulResource, Base):
    __tablename__ = "long_awaiteds"
    id: Mapped[int] = mapped_column(primary_key=True)
    work = Trigger.on_demand("long_awaited.work", max_attempts=1)

    @work.action(S.NEW, S.DONE, failed=S.LOST)
    async def act(self, ctx: AsyncJobContext, column: str, value: str) -> None:
        setattr(self, column, value)


class Chunked(Common, StatefulResource, Base):
    __tablename__ = "long_chunkeds"
    id: Mapped[int] = mapped_column(primary_key=True)
    work = Trigger.on_demand("long_chunked.work", max_attempts=1, chunk=10)

    @work.action(S.NEW, S.DONE, failed=S.LOST)
    @staticmethod
    def act(records: list["Chunked"], ctx: ChunkContext) -> None:
        for record in records:
            for column, value in WANTED.items():
                setattr(record, column, value)


class Keyed(StatefulResource, Base):
    __tablename__ = "long_keyeds"
    id: Mapped[str] = mapped_column(String(5), primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.NEW, final=(S.DONE,))
    work = Trigger.on_demand("long_keyed.work", max_attempts=1)

    @work.action(S.NEW, S.DONE, failed=S.LOST)
    def act(self, ctx: JobContext) -> None: ...


@pytest.fixture
def app(database_url):
    app = StateJobs(
        database_url,
        domains=[Domain("long", resources=[Plain, Awaited, Chunked, Keyed])],
        sources=manual_sources(ManualClock()),
    )
    app.create_all()
    yield app
    close_app(app)


def enqueue_one(app, kind, column, value):
    WANTED.clear()
    WANTED[column] = value
    args = {} if kind is Chunked else {"column": column, "value": value}
    return enqueue(app, kind, "act", **args)
    Chunked.wanted = {column: value}
    return enqueue(app, kind, "act")


@pytest.mark.parametrize("column", ["plain", "padded", "shouted"])
@pytest.mark.parametrize("kind", [Plain, Awaited, Chunked])
def test_an_action_that_writes_too_long_a_value_fails_and_nothing_is_cut_off(
    app, kind, column
):
    enqueue_one(app, kind, column, "abcdefgh")

    app.drain()

    with app.session() as session:
        record = session.query(kind).one()
        assert (record.state, getattr(record, column)) == (S.LOST, None)
    (job,) = app.queries.jobs()
    (attempt,) = app.queries.attempts(job.id)
    assert "value too long" in attempt["message"]


@pytest.mark.parametrize("column", ["plain", "padded", "shouted"])
@pytest.mark.parametrize("kind", [Plain, Awaited, Chunked])
def test_a_value_that_just_fits_is_written(app, kind, column):
    enqueue_one(app, kind, column, "ABCDE")

    app.drain()

    with app.session() as session:
        record = session.query(kind).one()
        assert (record.state, getattr(record, column)) == (S.DONE, "ABCDE")


def test_a_key_that_newer_code_made_longer_finds_its_own_record_and_no_other(app):
    """Another deploy has widened the column; this code still has the old length."""
    with app.engine.begin() as connection:
        connection.execute(
            text("ALTER TABLE long_keyeds ALTER COLUMN id TYPE VARCHAR(50)")
        )
    with app.session() as session:
        records = [Keyed(id=key) for key in ("abcde", "abcde-1", "abcde-2")]
        session.add_all(records)
        session.flush()
        Keyed.act.enqueue_many(session, records[1:])
        session.commit()

    app.drain()

    with app.session() as session:
        states = {record.id: record.state for record in session.query(Keyed)}
    assert states == {"abcde": S.NEW, "abcde-1": S.DONE, "abcde-2": S.DONE}
    assert {job.state for job in app.queries.jobs()} == {JobState.COMPLETED}

"""The same action in each form that an action can have, and a row that it shares with others."""

from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from types import SimpleNamespace

from sqlalchemy import update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    ChunkContext,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    WorkerSettings,
    state_column,
    transition,
)
from tests.support.clock import ManualClock, manual_sources
from tests.support.ends import wrong_ends
from tests.support.kept_tables import make_all
from tests.support.parcels import close_app


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    NEW = "new"
    RUN = "run"
    DONE = "done"
    LOST = "lost"
    STOPPED = "stopped"


script = SimpleNamespace(body=lambda _records, _session, _ctx: None)
"""What each action does: `script.body = lambda records, session, ctx: …`."""


class Board(Base):
    """What actions and people both write."""

    __tablename__ = "boards"

    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)


class Common:
    """What every form has."""

    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)
    state: Mapped[S] = state_column(S, initial=S.NEW, final=(S.DONE,))

    @transition([S.NEW, S.RUN], S.STOPPED)
    def stop(self) -> None: ...


class Plain(Common, StatefulResource, Base):
    """Run by a `def`."""

    __tablename__ = "plains"
    work = Trigger.on_demand("plain.work", max_attempts=2, max_snoozes=2)

    @work.action(S.NEW, S.DONE, during=S.RUN, failed=S.LOST)
    def act(self, ctx: JobContext) -> None:
        script.body([self], ctx.session, ctx)


class Awaited(Common, StatefulResource, Base):
    """Run by an `async def`."""

    __tablename__ = "awaiteds"
    work = Trigger.on_demand("awaited.work", max_attempts=2, max_snoozes=2)

    @work.action(S.NEW, S.DONE, during=S.RUN, failed=S.LOST)
    async def act(self, ctx: AsyncJobContext) -> None:
        await ctx.session.run_sync(lambda session: script.body([self], session, ctx))


class Chunked(Common, StatefulResource, Base):
    """Run many at a time."""

    __tablename__ = "chunkeds"
    work = Trigger.on_demand("chunked.work", max_attempts=2, max_snoozes=2, chunk=10)

    @work.action(S.NEW, S.DONE, during=S.RUN, failed=S.LOST)
    @staticmethod
    def act(records: list["Chunked"], ctx: ChunkContext) -> None:
        script.body(records, ctx.session, ctx)


class Atomic(Common, StatefulResource, Base):
    """Run in one transaction with its outcome."""

    __tablename__ = "atomics"
    work = Trigger.on_demand("atomic.work", max_attempts=2, max_snoozes=2)

    @work.action(S.NEW, S.DONE, during=S.RUN, failed=S.LOST, atomic=True)
    def act(self, ctx: JobContext) -> None:
        script.body([self], ctx.session, ctx)


class AwaitedAtomic(Common, StatefulResource, Base):
    """Run by an `async def` in one transaction with its outcome."""

    __tablename__ = "awaited_atomics"
    work = Trigger.on_demand("awaited_atomic.work", max_attempts=2, max_snoozes=2)

    @work.action(S.NEW, S.DONE, during=S.RUN, failed=S.LOST, atomic=True)
    async def act(self, ctx: AsyncJobContext) -> None:
        await ctx.session.run_sync(lambda session: script.body([self], session, ctx))


LOOSE = (Plain, Awaited, Chunked)
"""Forms whose body runs before anything is locked."""
FORMS = (*LOOSE, Atomic, AwaitedAtomic)


@contextmanager
def office(url, resources=FORMS, **options):
    """An app on *url* with its tables and one board, on a clock that stands still."""
    app = StateJobs(
        url,
        domains=[Domain("forms", resources=list(resources))],
        **{
            "sources": manual_sources(ManualClock()),
            "settings": WorkerSettings(timeout_grace=timedelta(seconds=0.2)),
            **options,
        },
    )
    try:
        make_all(app, Base.metadata)  # the board belongs to no resource
        with app.session() as session:
            session.add(Board(id=1))
            session.commit()
        yield app
        assert wrong_ends(app.engine) == []
    finally:
        script.body = lambda _records, _session, _ctx: None
        close_app(app)


def write_on_board(session):
    """Write what others write as well."""
    session.execute(update(Board).where(Board.id == 1).values(n=Board.n + 1))


def board(app):
    """How often the board was written."""
    with app.session() as session:
        return session.get_one(Board, 1).n

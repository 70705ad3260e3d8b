"""Errands, calls and visits: the job of each does what its record says, and leaves an effect."""

import asyncio
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    JobContext,
    StatefulResource,
    Trigger,
    state_column,
    transition,
)
from tests.support.deeds import BACKOFF, DEEDS


class Base(DeclarativeBase):
    """The user's base."""


class Effect(Base):
    """Written by a job, so that one which ran twice shows."""

    __tablename__ = "effects"

    id: Mapped[int] = mapped_column(primary_key=True)
    of: Mapped[str]


class S(StrEnum):
    NEW = "new"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    DROPPED = "dropped"


class Doing:
    """What every kind has."""

    id: Mapped[int] = mapped_column(primary_key=True)
    does: Mapped[str] = mapped_column(default="nothing")
    """A key of `DEEDS`, or what is awaited."""
    state: Mapped[S] = state_column(S, initial=S.NEW, final=(S.DONE, S.DROPPED))

    def leave_effect(self, ctx: JobContext | AsyncJobContext) -> None:
        ctx.session.add(Effect(of=f"{type(self).__name__.lower()} {self.id}"))


class Errand(Doing, StatefulResource, Base):
    """Done by a `def` action; may be done again, or dropped."""

    __tablename__ = "errands"

    runs: Mapped[int] = mapped_column(default=0)
    is_mended: Mapped[bool] = mapped_column(default=False)

    run = Trigger.on_demand(
        "errand.run", queue="work", max_attempts=100, max_crashes=3, backoff=BACKOFF
    )

    @transition(S.NEW, S.QUEUED, run_trigger=run)
    def submit(self) -> None: ...

    @run.action(S.QUEUED, S.DONE, during=S.RUNNING, failed=S.FAILED)
    def go(self, ctx: JobContext) -> None:
        self.runs += 1
        if self.does != "own":  # that writes its own columns alone
            self.leave_effect(ctx)
        DEEDS[self.does](self, ctx)

    @transition(S.FAILED, S.QUEUED, run_trigger=run)
    def retry(self) -> None:
        self.is_mended = True

    @transition([S.NEW, S.QUEUED], S.DROPPED)
    def drop(self) -> None: ...


class Call(Doing, StatefulResource, Base):
    """Done by an `async def` action that awaits before it writes, or with its row locked."""

    __tablename__ = "calls"

    noted: Mapped[str] = mapped_column(default="")

    run = Trigger.on_demand(
        "call.run",
        queue="calls",
        max_attempts=2,
        backoff=timedelta(seconds=0.2),
        timeout=timedelta(seconds=30),
    )

    @transition(S.NEW, S.QUEUED, run_trigger=run)
    def submit(self) -> None: ...

    @run.action(S.QUEUED, S.DONE, during=S.RUNNING, failed=S.FAILED)
    async def go(self, ctx: AsyncJobContext) -> None:
        await asyncio.sleep(3 if self.does == "pause" else 0)
        self.leave_effect(ctx)
        match self.does:
            case "pause":
                """It has paused."""
            case "write and wait":
                self.noted = "its row is locked from here on"
                await ctx.session.flush()
                await asyncio.sleep(3)
            case does:
                DEEDS[does](self, ctx)


class Visit(Doing, StatefulResource, Base):
    """Done by an `async def` action that has a second."""

    __tablename__ = "visits"

    run = Trigger.on_demand(
        "visit.run",
        queue="calls",
        max_attempts=2,
        backoff=timedelta(seconds=0.2),
        timeout=timedelta(seconds=1),
    )

    @transition(S.NEW, S.QUEUED, run_trigger=run)
    def submit(self) -> None: ...

    @run.action(S.QUEUED, S.DONE, during=S.RUNNING, failed=S.FAILED)
    async def go(self, ctx: AsyncJobContext) -> None:
        DEEDS[self.does](self, ctx)


def add(app, kind, *deeds):
    """Commit a record with a job for each of *deeds*; return their ids."""
    with app.session() as session:
        records = [kind(does=does) for does in deeds]
        session.add_all(records)
        for record in records:
            record.submit()
        session.commit()
        return [record.id for record in records]


def count(app, kind, *states):
    """How many records are in *states*."""
    with app.session() as session:
        wanted = select(func.count()).select_from(kind).where(kind.state.in_(states))
        return session.scalar(wanted)


def effects(app):
    """Record, such as "errand 1" → how often its effect is there."""
    with app.session() as session:
        rows = session.execute(select(Effect.of, func.count()).group_by(Effect.of))
        return {of: times for of, times in rows}

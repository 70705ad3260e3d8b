"""An app for real workers: its jobs kill their process, block it, or simply work."""

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    WorkerSettings,
    state_column,
)

LEASE = 3.0
SLOTS = 4


class Base(DeclarativeBase): ...


class Effect(Base):
    """Written by every job, so that one which ran twice shows."""

    __tablename__ = "effects"

    id: Mapped[int] = mapped_column(primary_key=True)
    errand: Mapped[str]


class S(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Errand(StatefulResource, Base):
    __tablename__ = "errands"

    id: Mapped[int] = mapped_column(primary_key=True)
    does: Mapped[str] = mapped_column(default="nothing")
    run = Trigger.on_demand(
        "errand.run", queue="work", max_attempts=9, max_crashes=3, timeout=None
    )
    state: Mapped[S] = state_column(
        S, initial=S.QUEUED, final=(S.DONE,), run_trigger=run
    )

    @run.action(S.QUEUED, S.DONE, during=S.RUNNING, failed=S.FAILED)
    def go(self, ctx: JobContext) -> None:
        ctx.session.add(Effect(errand=f"errand {self.id}"))
        DEEDS[self.does](ctx)


class Call(StatefulResource, Base):
    __tablename__ = "calls"

    id: Mapped[int] = mapped_column(primary_key=True)
    does: Mapped[str] = mapped_column(default="nothing")
    noted: Mapped[str] = mapped_column(default="")
    run = Trigger.on_demand(
        "call.run",
        queue="calls",
        max_attempts=2,
        backoff=timedelta(seconds=0.2),
        timeout=timedelta(seconds=30),
    )
    state: Mapped[S] = state_column(
        S, initial=S.QUEUED, final=(S.DONE,), run_trigger=run
    )

    @run.action(S.QUEUED, S.DONE, during=S.RUNNING, failed=S.FAILED)
    async def go(self, ctx: AsyncJobContext) -> None:
        await asyncio.sleep(3 if self.does == "pause" else 0)
        ctx.session.add(Effect(errand=f"call {self.id}"))
        if self.does == "write and wait":
            self.noted = "its row is locked from here on"
            await ctx.session.flush()
            await asyncio.sleep(3)
        DEEDS[self.does](ctx)


class Visit(StatefulResource, Base):
    __tablename__ = "visits"

    id: Mapped[int] = mapped_column(primary_key=True)
    does: Mapped[str] = mapped_column(default="nothing")
    run = Trigger.on_demand(
        "visit.run",
        queue="calls",
        max_attempts=2,
        backoff=timedelta(seconds=0.2),
        timeout=timedelta(seconds=1),
    )
    state: Mapped[S] = state_column(
        S, initial=S.QUEUED, final=(S.DONE,), run_trigger=run
    )

    @run.action(S.QUEUED, S.DONE, during=S.RUNNING, failed=S.FAILED)
    async def go(self, ctx: AsyncJobContext) -> None:
        DEEDS[self.does](ctx)


# What jobs do ------------------------------------------------------------------------------------


def _nothing(_ctx):
    pass


def _work(_ctx):
    time.sleep(0.02)  # noqa: TID251


def _hang(ctx):
    if ctx.attempt == 1:
        time.sleep(120)  # noqa: TID251 - its worker is killed


def _block(_ctx):
    time.sleep(120)  # noqa: TID251 - in `async def`: nothing else runs on its loop


def _segfault(_ctx):
    ctypes.string_at(0)


def _exit(_ctx):
    os._exit(3)


def _killed(_ctx):
    """End as the kernel ends what takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def _fork(_ctx):
    """Leave a copy of the worker behind, which lives on for a while with all its sockets."""
    if os.fork() == 0:
        time.sleep(0.5)  # noqa: TID251
        os._exit(0)


def _fork_home(_ctx):
    """Let the copy go on as if it were the worker."""
    os.fork()


def _sleep_past_the_lease(_ctx):
    time.sleep(1.4 * LEASE)  # noqa: TID251


def _spin_past_the_lease(_ctx):
    until = time.monotonic() + 1.4 * LEASE
    while time.monotonic() < until:
        sum(range(1000))


def _hold_the_interpreter(_ctx):
    """One call of C that lets no other thread run, for a third of a lease: as long as from one
    heartbeat to the next, so that two thirds can be gone when it ends."""
    ctypes.PyDLL(None).usleep(int(LEASE / 3 * 1_000_000))


DEEDS = {
    "nothing": _nothing,
    "work": _work,
    "pause": _nothing,
    "hang": _hang,
    "block": _block,
    "write and wait": _nothing,
    "segfault": _segfault,
    "exit": _exit,
    "killed": _killed,
    "fork": _fork,
    "fork and return": _fork_home,
    "sleep": _sleep_past_the_lease,
    "spin": _spin_past_the_lease,
    "hold": _hold_the_interpreter,
}


def make_app(database: str = "sqlite:///promises.db") -> StateJobs:
    """The app, with leases of three seconds."""
    return StateJobs(
        database,
        domains=[Domain("promises", resources=[Errand, Call, Visit])],
        queues={"work": SLOTS, "calls": SLOTS},
        settings=WorkerSettings(
            lease=timedelta(seconds=LEASE),
            heartbeat=timedelta(seconds=1),
            rescue=timedelta(seconds=0.5),
            poll=timedelta(seconds=0.2),
            shutdown_grace=timedelta(seconds=10),
            timeout_grace=timedelta(seconds=0.5),
        ),
    )


@contextlib.contextmanager
def opened(url):
    """The app with its tables, closed at the end."""
    app = make_app(url)
    try:
        app.create_all()
        yield app
    finally:
        app.engine.dispose()


# What tests ask ----------------------------------------------------------------------------------


def add(app, kind, *deeds):
    """Commit a record with a job for each of *deeds*; return their ids."""
    with app.session() as session:
        records = [kind(does=does) for does in deeds]
        session.add_all(records)
        session.commit()
        return [record.id for record in records]


def count(app, kind, *states):
    """How many records are in *states*."""
    with app.session() as session:
        wanted = select(func.count()).select_from(kind).where(kind.state.in_(states))
        return session.scalar(wanted)


def effects(app):
    """Errand → how often its effect is there."""
    with app.session() as session:
        rows = session.execute(
            select(Effect.errand, func.count()).group_by(Effect.errand)
        )
        return {errand: times for errand, times in rows}

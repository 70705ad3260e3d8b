"""The app under fire: actions that write, fail, wait, snooze and spawn, as their record says."""

import json
import os
import time
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from sqlalchemy import DDL, Dialect, Index, Text, TypeDecorator, event, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    Domain,
    JobContext,
    Snooze,
    Sources,
    StatefulResource,
    StateJobs,
    Trigger,
    WorkerSettings,
    scheduled_action,
    state_column,
    transition,
)
from statejobs.values.clock import SystemClock, random_id

LEASE = "CHAOS_LEASE"
"""Environment: seconds of the lease of every worker."""
LEDGER = "CHAOS_LEDGER"
"""Environment: the file outside of the database that actions append to."""
SKEW = "CHAOS_SKEW"
"""Environment: the file that says by how many seconds the system clock is off."""
VERSION = "CHAOS_VERSION"
"""Environment: `new`, or `old` for the version that does not know gifts."""
FOREIGN = "foreign."
"""How the keys of another app's jobs begin; the state follows that nobody here may change."""
SOON = timedelta(seconds=0.4)
HOLDS = 4.0
"""Seconds that a deposit keeps its transaction open."""


class Base(DeclarativeBase):
    """The user's base."""


class Effect(Base):
    """What an action writes through `ctx.session`; nothing but the engine forbids a second one."""

    __tablename__ = "chaos_effects"

    id: Mapped[int] = mapped_column(primary_key=True)
    record: Mapped[str] = mapped_column(index=True)
    attempt: Mapped[int]


class Json(TypeDecorator[object]):
    """A column type of the user's: what is no JSON, it cannot decode."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> object:
        return None if value is None else json.loads(value)


class State(StrEnum):
    DRAFT = "draft"
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Does(StrEnum):
    """What the action of an errand does."""

    TOUCH = "touch"
    """Changes its own record only."""
    WRITE = "write"
    SPAWN = "spawn"
    """Enqueues another job through `ctx.session`."""
    STUMBLE = "stumble"
    """Fails twice."""
    NAP = "nap"
    """Snoozes once."""
    DALLY = "dally"
    """Takes its time."""
    DOOM = "doom"
    """Fails until somebody mends it."""
    REFUSED = "refused"
    """The database lets it not begin until somebody mends it."""
    QUEUE_UP = "queue up"
    """Takes its time in the only place that its customer has."""
    GARBLED = "garbled"
    """Its record cannot be loaded until somebody mends it."""
    UNREAD = "unread"
    """The row of its job cannot be read, so that somebody has to cancel the errand."""


S = State


class Errand(StatefulResource, Base):
    __tablename__ = "chaos_errands"

    id: Mapped[str] = mapped_column(primary_key=True)
    does: Mapped[Does]
    count: Mapped[int] = mapped_column(default=0)
    is_mended: Mapped[bool] = mapped_column(default=False)
    customer: Mapped[str | None]
    note: Mapped[object] = mapped_column(Json, default=None, nullable=True)
    state: Mapped[State] = state_column(
        State, initial=S.DRAFT, final=(S.COMPLETED, S.CANCELLED)
    )

    run = Trigger.on_demand(
        "chaos.errand", queue="errands", priority=1, max_attempts=6, backoff=SOON
    )

    @transition(S.DRAFT, S.QUEUED, run_trigger=run)
    def submit(self) -> None:
        """Ask for it."""

    @run.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    def perform(self, ctx: JobContext) -> None:
        append_to_ledger(self.id, ctx)
        self._hesitate(ctx)
        if self.does is Does.TOUCH:
            self.count += 1
            return
        ctx.session.add(Effect(record=self.id, attempt=ctx.attempt))
        counted = (
            update(Errand).where(Errand.id == self.id).values(count=Errand.count + 1)
        )
        ctx.session.execute(counted)
        if self.does is Does.SPAWN:
            ctx.session.add(Gift(id=random_id(), giver=self.id))

    @transition(S.FAILED, S.QUEUED, run_trigger=run)
    def mend(self) -> None:
        """Mend what made it fail, and try again."""
        self.is_mended = True

    @transition([S.DRAFT, S.QUEUED, S.PROCESSING, S.FAILED], S.CANCELLED)
    def cancel(self) -> None:
        """Nobody wants it any more."""

    def _hesitate(self, ctx: JobContext) -> None:
        match self.does:
            case Does.STUMBLE if ctx.attempt < 3:
                raise RuntimeError("stumbled")
            case Does.DOOM if not self.is_mended:
                raise RuntimeError("doomed until it is mended")
            case Does.NAP if "napped" not in ctx.checkpoint:
                ctx.checkpoint["napped"] = True
                raise Snooze(SOON)
            case Does.DALLY | Does.QUEUE_UP:
                time.sleep(0.1 + int(self.id[:2], 16) / 256)  # noqa: TID251


_RUNS = text("state = 'processing'")
Index(
    "chaos_one_place",
    Errand.customer,
    unique=True,
    sqlite_where=_RUNS,
    postgresql_where=_RUNS,
)
"""A customer has one errand run at a time."""

_IS_REFUSED = """
    lower(CAST(NEW.does AS text)) = 'refused' AND NEW.state = 'processing' AND NOT NEW.is_mended
"""
_REFUSE = {
    "sqlite": [
        f"""CREATE TRIGGER chaos_refuse BEFORE UPDATE ON chaos_errands WHEN {_IS_REFUSED}
        BEGIN SELECT RAISE(ABORT, 'this errand may not begin'); END""",
    ],
    "postgresql": [
        """CREATE FUNCTION chaos_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'this errand may not begin'; END $$""",
        f"""CREATE TRIGGER chaos_refuse BEFORE UPDATE ON chaos_errands FOR EACH ROW
        WHEN ({_IS_REFUSED}) EXECUTE FUNCTION chaos_refuse()""",
    ],
}
for _dialect, _statements in _REFUSE.items():
    for _statement in _statements:
        event.listen(
            Errand.__table__,
            "after_create",
            DDL(_statement).execute_if(dialect=_dialect),
        )


class Gift(StatefulResource, Base):
    """Known to the new version only; creation enqueues its job, and its action is async."""

    __tablename__ = "chaos_gifts"

    id: Mapped[str] = mapped_column(primary_key=True)
    giver: Mapped[str] = mapped_column(index=True)
    wrap = Trigger.on_demand("chaos.gift", queue="gifts", max_attempts=6, backoff=SOON)
    state: Mapped[State] = state_column(
        State, initial=S.QUEUED, final=(S.COMPLETED, S.CANCELLED), run_trigger=wrap
    )

    @wrap.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    async def put_into_paper(self, ctx: AsyncJobContext) -> None:
        append_to_ledger(self.id, ctx)
        ctx.session.add(Effect(record=self.id, attempt=ctx.attempt))

    @transition(S.FAILED, S.QUEUED, run_trigger=wrap)
    def mend(self) -> None:
        """Try again."""

    @transition([S.QUEUED, S.PROCESSING, S.FAILED], S.CANCELLED)
    def cancel(self) -> None:
        """Nobody wants it any more."""


class Deposit(StatefulResource, Base):
    """Its action is atomic: record lock, body and outcome are one transaction."""

    __tablename__ = "chaos_deposits"

    id: Mapped[str] = mapped_column(primary_key=True)
    seen: Mapped[int] = mapped_column(default=0)
    """How often a user has looked: a write that waits for the lock of the action."""
    store = Trigger.on_demand(
        "chaos.deposit", queue="errands", max_attempts=6, backoff=SOON
    )
    state: Mapped[State] = state_column(
        State, initial=S.QUEUED, final=(S.COMPLETED, S.CANCELLED), run_trigger=store
    )

    @store.action(
        S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED, atomic=True
    )
    def put_away(self, ctx: JobContext) -> None:
        append_to_ledger(self.id, ctx)
        ctx.session.add(Effect(record=self.id, attempt=ctx.attempt))
        ctx.session.flush()
        self._hold()

    @transition(S.FAILED, S.QUEUED, run_trigger=store)
    def mend(self) -> None:
        """Try again."""

    @transition([S.QUEUED, S.PROCESSING, S.FAILED], S.CANCELLED)
    def cancel(self) -> None:
        """Nobody wants it any more."""

    def _hold(self) -> None:
        """Say once that the transaction is open, and wait for whoever wants to stop it there."""
        holder = holder_of(self.id)
        if not holder.exists():
            written = holder.with_suffix(".new")
            written.write_text(str(os.getpid()))
            written.rename(holder)
            time.sleep(HOLDS)  # noqa: TID251


RESOURCES = (Errand, Gift, Deposit)


BY_THE_CLOCK = {
    "queue": "errands",
    "catch_up": "all",
    "overlap": "queue",
    "max_attempts": 6,
    "backoff": SOON,
}


@scheduled_action("chaos.minute", cron="* * * * *", **BY_THE_CLOCK)
def strike(ctx: JobContext) -> None:
    """Strike each minute; known to the new version only."""
    _note_tick(ctx)


@scheduled_action("chaos.five", cron="*/5 * * * *", **BY_THE_CLOCK)
def strike_five(ctx: JobContext) -> None:
    """Strike each fifth minute."""
    _note_tick(ctx)


def tick_name(key: str, at: datetime) -> str:
    """Return what a tick is called in effects and ledger."""
    return f"{key}@{at:%Y-%m-%dT%H:%M}"


def _note_tick(ctx: JobContext) -> None:
    assert ctx.tick is not None
    name = tick_name(ctx.job.key, ctx.tick)
    append_to_ledger(name, ctx)
    ctx.session.add(Effect(record=name, attempt=ctx.attempt))


def holder_of(deposit: str) -> Path:
    """Return the file that says which process has the transaction of a deposit open."""
    return Path(os.environ[LEDGER]).with_name(f"holder-{deposit}")


class WrongClock(SystemClock):
    """The system clock of a machine that someone sets while it runs."""

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self._off())

    def _off(self) -> float:
        try:
            return float(Path(os.environ[SKEW]).read_text())
        except (KeyError, OSError, ValueError):  # nobody has set it, or is just writing
            return 0.0


def make_app(database: str) -> StateJobs:
    """The new version."""
    return _app(database, list(RESOURCES), tasks=[strike, strike_five])


def make_old_app(database: str) -> StateJobs:
    """The old version: it serves the queue of gifts, and knows no key in it."""
    return _app(database, [Errand], tasks=[])


def append_to_ledger(record: str, ctx: JobContext | AsyncJobContext) -> None:
    """Say outside of the database that an action ran: at least once, under one key."""
    line = f"{record} {ctx.idempotency_key} {ctx.attempt} {os.environ.get(VERSION, 'new')}\n"
    ledger = os.open(Path(os.environ[LEDGER]), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, line.encode())
    finally:
        os.close(ledger)


def _app(
    database: str, resources: list[type[StatefulResource]], *, tasks: list
) -> StateJobs:
    lease = float(os.environ.get(LEASE, "30"))
    settings = WorkerSettings(
        lease=timedelta(seconds=lease),
        heartbeat=timedelta(seconds=lease / 3),
        rescue=timedelta(seconds=lease / 6),
        poll=timedelta(seconds=min(1, lease / 6)),
        shutdown_grace=timedelta(seconds=2),
    )
    domain = Domain("chaos", resources=resources, tasks=tasks)
    return StateJobs(
        database,
        domains=[domain],
        queues={"errands": 6, "gifts": 2},
        settings=settings,
        sources=Sources(clock=WrongClock()),
    )

"""An app for the command line: its actions wait, fail, hang and die as their record says."""

import os
import time
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    WorkerSettings,
    state_column,
    transition,
)


class Base(DeclarativeBase):
    """The user's base."""


class TaskState(StrEnum):
    DRAFT = "draft"
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


S = TaskState


class Task(StatefulResource, Base):
    __tablename__ = "tasks"

    id: Mapped[int] = mapped_column(primary_key=True)
    does: Mapped[str] = mapped_column(default="nothing")
    """What its job does: `nothing`, `fail` or `hang`."""
    note: Mapped[str | None]
    state: Mapped[TaskState] = state_column(
        TaskState, initial=S.DRAFT, final=(S.COMPLETED, S.CANCELLED)
    )

    perform = Trigger.on_demand(
        "task.perform", queue="work", max_attempts=2, timeout=timedelta(seconds=1.5)
    )

    def is_not_locked(self) -> bool:
        """It is locked."""
        return self.note != "locked"

    @transition(S.DRAFT, S.QUEUED, guard=is_not_locked, run_trigger=perform)
    def submit(self) -> None:
        """Ask for it to be done."""

    @perform.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    def do_it(self, ctx: JobContext) -> None:
        if self.does == "fail":
            raise RuntimeError("the gateway is down")
        if self.does == "hang":
            time.sleep(60)  # noqa: TID251
        self.note = f"done by {os.getpid()}"

    @transition(S.FAILED, S.QUEUED, guard=is_not_locked, run_trigger=perform)
    def retry(self) -> None:
        """Try again."""

    @transition([S.DRAFT, S.QUEUED, S.FAILED], S.CANCELLED)
    def cancel(self, reason: str) -> None:
        """Stop it."""


class Carried:
    """What waits for a file and is carried then."""

    until: Mapped[str]
    """A file; the job waits until it exists. Its process is told in another beside it."""
    note: Mapped[str | None]
    state: Mapped[TaskState] = state_column(
        TaskState, initial=S.DRAFT, final=(S.COMPLETED, S.CANCELLED)
    )

    def wait_and_note(self) -> None:
        Path(f"{self.until}.begun").write_text(str(os.getpid()))
        while not Path(self.until).exists():
            time.sleep(0.02)  # noqa: TID251
        self.note = f"carried by {os.getpid()}"


class Parcel(Carried, StatefulResource, Base):
    __tablename__ = "parcels"

    id: Mapped[str] = mapped_column(primary_key=True)

    ship = Trigger.on_demand("parcel.ship", queue="slow", max_attempts=3)

    @transition(S.DRAFT, S.QUEUED, run_trigger=ship)
    def send(self) -> None:
        """Ship it."""

    @ship.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    def carry(self, ctx: JobContext) -> None:
        self.wait_and_note()


class Crate(Carried, StatefulResource, Base):
    """Carried in one transaction with its outcome, so that it stays locked meanwhile."""

    __tablename__ = "crates"

    id: Mapped[int] = mapped_column(primary_key=True)

    lift = Trigger.on_demand("crate.lift", queue="slow", max_attempts=3)

    @transition(S.DRAFT, S.QUEUED, run_trigger=lift)
    def send(self) -> None:
        """Have it carried."""

    @lift.action(
        S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED, atomic=True
    )
    def carry(self, ctx: JobContext) -> None:
        self.wait_and_note()


HASTY = WorkerSettings(
    lease=timedelta(seconds=2),
    heartbeat=timedelta(seconds=0.5),
    rescue=timedelta(seconds=0.3),
    poll=timedelta(seconds=0.2),
    shutdown_grace=timedelta(seconds=5),
    timeout_grace=timedelta(seconds=0.3),
)
"""Leases are short, so that tests need not wait for them."""


def make_app(
    database: str | Engine = "sqlite:///worker_app.db",
    settings: WorkerSettings = HASTY,
) -> StateJobs:
    """The app."""
    return StateJobs(
        database,
        domains=[Domain("work", resources=[Task, Parcel, Crate])],
        queues={"work": 4, "slow": 2},
        settings=settings,
    )

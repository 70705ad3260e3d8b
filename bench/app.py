"""The app that is measured, written as users do; `statejobs worker --app bench.app:make_app`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Engine, ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import statejobs
from statejobs import (
    AsyncJobContext,
    ChunkContext,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    UtcDateTime,
    WorkerSettings,
    configure_sqlite,
    state_column,
    transition,
)

SYNCHRONOUS_VARIABLE = "STATEJOBS_BENCH_SYNCHRONOUS"
LIMIT_VARIABLE = "STATEJOBS_BENCH_LIMIT"
FINISH_VARIABLE = "STATEJOBS_BENCH_FINISH_BATCH"
QUEUE = "orders"
TASK_QUEUE = "tasks"


class Base(DeclarativeBase):
    """The user's base."""


class OrderState(StrEnum):
    """Where an order is."""

    DRAFT = "draft"
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


S = OrderState


class Order(StatefulResource, Base):
    """The record of the headline figures: history on, `processing` visible."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    charged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    state: Mapped[OrderState] = state_column(
        OrderState, initial=S.DRAFT, final=(S.COMPLETED,)
    )

    charge = Trigger.on_demand("order.charge", queue=QUEUE)

    @transition([S.DRAFT, S.FAILED], S.QUEUED, run_trigger=charge)
    def submit(self) -> None:
        """Ask for the money."""

    @charge.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    def pay(self, ctx: JobContext) -> None:
        """Set a column, as an action does that has heard from its gateway."""
        self.charged_at = ctx.now


class QuietOrder(StatefulResource, Base):
    """The same without history."""

    __tablename__ = "quiet_orders"
    __history__ = False

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    charged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    state: Mapped[OrderState] = state_column(
        OrderState, initial=S.DRAFT, final=(S.COMPLETED,)
    )

    charge = Trigger.on_demand("quiet_order.charge", queue=QUEUE)

    @transition([S.DRAFT, S.FAILED], S.QUEUED, run_trigger=charge)
    def submit(self) -> None:
        """Ask for the money."""

    @charge.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    def pay(self, ctx: JobContext) -> None:
        """Set a column."""
        self.charged_at = ctx.now


class AsyncOrder(StatefulResource, Base):
    """The same with an `async def` action."""

    __tablename__ = "async_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    charged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    state: Mapped[OrderState] = state_column(
        OrderState, initial=S.DRAFT, final=(S.COMPLETED,)
    )

    charge = Trigger.on_demand("async_order.charge", queue=QUEUE)

    @transition([S.DRAFT, S.FAILED], S.QUEUED, run_trigger=charge)
    def submit(self) -> None:
        """Ask for the money."""

    @charge.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    async def pay(self, ctx: AsyncJobContext) -> None:
        """Set a column."""
        self.charged_at = ctx.now


class ChunkOrder(StatefulResource, Base):
    """The same, many in one call."""

    __tablename__ = "chunk_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    charged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    state: Mapped[OrderState] = state_column(
        OrderState, initial=S.DRAFT, final=(S.COMPLETED,)
    )

    charge = Trigger.on_demand("chunk_order.charge", queue=QUEUE, chunk=100)

    @transition([S.DRAFT, S.FAILED], S.QUEUED, run_trigger=charge)
    def submit(self) -> None:
        """Ask for the money."""

    @charge.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    @staticmethod
    def pay_all(orders: Sequence[ChunkOrder], ctx: ChunkContext) -> None:
        """Set a column of each."""
        for order in orders:
            order.charged_at = ctx.now


class AtomicOrder(StatefulResource, Base):
    """The same in one transaction with its outcome, and with others that wait."""

    __tablename__ = "atomic_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    charged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    state: Mapped[OrderState] = state_column(
        OrderState, initial=S.DRAFT, final=(S.COMPLETED,)
    )

    charge = Trigger.on_demand("atomic_order.charge", queue=QUEUE)

    @transition([S.DRAFT, S.FAILED], S.QUEUED, run_trigger=charge)
    def submit(self) -> None:
        """Ask for the money."""

    @charge.action(
        S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED, atomic=True
    )
    def pay(self, ctx: JobContext) -> None:
        """Set a column."""
        self.charged_at = ctx.now


class JsonOrder(StatefulResource, Base):
    """The same, and what the gateway said, as JSON."""

    __tablename__ = "json_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    charged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    said: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    state: Mapped[OrderState] = state_column(
        OrderState, initial=S.DRAFT, final=(S.COMPLETED,)
    )

    charge = Trigger.on_demand("json_order.charge", queue=QUEUE)

    @transition([S.DRAFT, S.FAILED], S.QUEUED, run_trigger=charge)
    def submit(self) -> None:
        """Ask for the money."""

    @charge.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    def pay(self, ctx: JobContext) -> None:
        """Set two columns."""
        self.charged_at = ctx.now
        self.said = {"paid": self.total, "by": "card"}


class BookedOrder(StatefulResource, Base):
    """An atomic action that writes a second row."""

    __tablename__ = "booked_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    charged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    state: Mapped[OrderState] = state_column(
        OrderState, initial=S.DRAFT, final=(S.COMPLETED,)
    )

    charge = Trigger.on_demand("booked_order.charge", queue=QUEUE)

    @transition([S.DRAFT, S.FAILED], S.QUEUED, run_trigger=charge)
    def submit(self) -> None:
        """Ask for the money."""

    @charge.action(
        S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED, atomic=True
    )
    def pay(self, ctx: JobContext) -> None:
        """Set a column, and book it."""
        self.charged_at = ctx.now
        ctx.session.add(Booking(order_id=self.id, amount=self.total))


class Booking(Base):
    """What a booked order writes beside itself."""

    __tablename__ = "bookings"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("booked_orders.id"))
    amount: Mapped[int]


noop: Any = None
"""A task that does nothing; None while statejobs has no tasks."""
if hasattr(statejobs, "task"):

    @statejobs.task("bench.noop", queue=TASK_QUEUE)
    def noop() -> None:
        """Do nothing."""


RESOURCES = (
    Order,
    QuietOrder,
    AsyncOrder,
    ChunkOrder,
    AtomicOrder,
    JsonOrder,
    BookedOrder,
)


def make_app(database: str) -> StateJobs:
    """Return the app on *database*; variables choose what a user would write down."""
    limit = int(os.environ.get(LIMIT_VARIABLE, "8"))
    engine: str | Engine = database
    tasks: dict[str, Any] = {} if noop is None else {"tasks": [noop]}
    if database.startswith("sqlite"):
        engine = configure_sqlite(
            create_engine(database, pool_size=2 * limit + 4),
            synchronous="NORMAL"
            if os.environ.get(SYNCHRONOUS_VARIABLE) == "NORMAL"
            else "FULL",
        )
    return StateJobs(
        engine,
        domains=[Domain("bench", resources=list(RESOURCES), **tasks)],
        queues={QUEUE: limit, TASK_QUEUE: limit},
        settings=WorkerSettings(
            finish_batch=int(os.environ.get(FINISH_VARIABLE, "100"))
        ),
    )

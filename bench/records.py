"""The records that statejobs works on, and the app that runs their actions."""

from __future__ import annotations

import os
import time
from datetime import datetime
from enum import StrEnum

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    UtcDateTime,
    configure_sqlite,
    state_column,
    transition,
    utcnow,
)

QUEUE = "bench"


class Base(DeclarativeBase):
    """Base of the models."""


class OrderState(StrEnum):
    """Where an order is."""

    DRAFT = "draft"
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


S = OrderState


class OrderColumns:
    """The columns that every order has, here and in the floors."""

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    coupon: Mapped[str | None]
    charged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class Order(OrderColumns, StatefulResource, Base):
    """W1, W2, W4: `processing` is visible, history is on."""

    __tablename__ = "orders"

    state: Mapped[OrderState] = state_column(OrderState, initial=S.DRAFT, final=(S.COMPLETED,))
    charge = Trigger.on_demand("order.charge", queue=QUEUE)

    @transition(S.DRAFT, S.QUEUED, run_trigger=charge)
    def submit(self) -> None:
        """Ask for the payment."""

    @charge.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    def process_payment(self, ctx: JobContext) -> None:
        """Take the payment."""
        self.charged_at = ctx.now


class QuietOrder(OrderColumns, StatefulResource, Base):
    """The same without history."""

    __tablename__ = "quiet_orders"
    __history__ = False

    state: Mapped[OrderState] = state_column(OrderState, initial=S.DRAFT, final=(S.COMPLETED,))
    charge = Trigger.on_demand("quiet.charge", queue=QUEUE)

    @transition(S.DRAFT, S.QUEUED, run_trigger=charge)
    def submit(self) -> None:
        """Ask for the payment."""

    @charge.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    def process_payment(self, ctx: JobContext) -> None:
        """Take the payment."""
        self.charged_at = ctx.now


class AtomicOrder(OrderColumns, StatefulResource, Base):
    """W4b: body and outcome share a transaction, which a worker may share between jobs."""

    __tablename__ = "atomic_orders"

    state: Mapped[OrderState] = state_column(OrderState, initial=S.DRAFT, final=(S.COMPLETED,))
    charge = Trigger.on_demand("atomic.charge", queue=QUEUE)

    @transition(S.DRAFT, S.QUEUED, run_trigger=charge)
    def submit(self) -> None:
        """Ask for the payment."""

    @charge.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED, atomic=True)
    def process_payment(self, ctx: JobContext) -> None:
        """Take the payment."""
        self.charged_at = ctx.now


class Ping(OrderColumns, StatefulResource, Base):
    """W3: an action that changes nothing, without `during` and without history."""

    __tablename__ = "pings"
    __history__ = False

    state: Mapped[OrderState] = state_column(OrderState, initial=S.DRAFT, final=(S.COMPLETED,))
    call = Trigger.on_demand("ping.call", queue=QUEUE)

    @transition(S.DRAFT, S.QUEUED, run_trigger=call)
    def submit(self) -> None:
        """Ask for a call."""

    @call.action(S.QUEUED, S.COMPLETED)
    def answer(self, ctx: JobContext) -> None:
        """Do nothing."""


class Signal(OrderColumns, StatefulResource, Base):
    """W5: an action that says on the standard output when it started."""

    __tablename__ = "signals"

    state: Mapped[OrderState] = state_column(OrderState, initial=S.DRAFT, final=(S.COMPLETED,))
    call = Trigger.on_demand("signal.call", queue=QUEUE)

    @transition(S.DRAFT, S.QUEUED, run_trigger=call)
    def submit(self) -> None:
        """Ask for a call."""

    @call.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    def answer(self, ctx: JobContext) -> None:
        """Write the time of the machine, which all processes share."""
        os.write(1, f"{time.monotonic_ns()}\n".encode())


Model = type[Order | QuietOrder | AtomicOrder | Ping | Signal]
MODELS: dict[str, Model] = {
    model.__name__: model for model in (Order, QuietOrder, AtomicOrder, Ping, Signal)
}


def make_app(url: str, *, model: str, limit: int = 20, synchronous: str = "FULL") -> StateJobs:
    """Return an app that serves the jobs of *model*.

    Args:
        url: The database.
        model: Name of the only resource.
        limit: How many jobs a worker process runs at once.
        synchronous: Of SQLite: FULL or NORMAL.
    """
    domains = [Domain("bench", resources=[MODELS[model]])]
    queues = {QUEUE: limit}
    if make_url(url).get_backend_name() == "sqlite":
        engine = create_engine(url, pool_size=limit + 4, max_overflow=10)
        configure_sqlite(engine, synchronous="NORMAL" if synchronous == "NORMAL" else "FULL")
        return StateJobs(engine, domains=domains, queues=queues)
    return StateJobs(url, domains=domains, queues=queues)

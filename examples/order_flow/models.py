"""What the shop keeps: orders, which are state machines, and receipts, which are plain rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from order_flow.gateway import CardDeclinedError, PaymentGateway
from statejobs import (
    Cancel,
    JobContext,
    StatefulResource,
    Trigger,
    UtcDateTime,
    state_column,
    transition,
    utcnow,
)


class Base(DeclarativeBase):
    """Base of the shop's models."""


class OrderState(StrEnum):
    """Where an order is in its life."""

    DRAFT = "draft"
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


S = OrderState


class Order(StatefulResource, Base):
    """What a customer buys."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]  # cents
    coupon: Mapped[str | None]
    charged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    state: Mapped[OrderState] = state_column(
        OrderState, initial=S.DRAFT, final=(S.COMPLETED, S.CANCELLED)
    )

    charge = Trigger.on_demand(
        "order.charge",
        queue="payments",
        max_attempts=4,
        # Short, so that the demo can be watched; leave it out to wait 15 seconds and more.
        backoff=[timedelta(seconds=0.4), timedelta(seconds=0.7), timedelta(seconds=1)],
    )

    def has_amount(self) -> bool:
        """Nothing to charge."""
        return self.total > 0

    @transition(S.DRAFT, S.QUEUED, guard=has_amount, run_trigger=charge)
    def submit(self, *, coupon: str | None = None) -> None:
        """Ask for the payment."""
        self.coupon = coupon

    @charge.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    def process_payment(self, ctx: JobContext) -> None:
        """Charge the card, and write the receipt in the commit that completes the order."""
        gateway = PaymentGateway.from_environment()
        try:
            charge_id = gateway.charge(
                self.id, self.total, idempotency_key=ctx.idempotency_key
            )
        except CardDeclinedError as declined:
            raise Cancel(
                str(declined)
            ) from declined  # it would be declined the next time too
        self.charged_at = ctx.now
        ctx.session.add(Receipt(order_id=self.id, charge_id=charge_id))

    @transition(S.FAILED, S.QUEUED, run_trigger=charge)
    def retry(self) -> None:
        """Try the payment again."""

    @transition([S.DRAFT, S.QUEUED, S.FAILED], S.CANCELLED)
    def cancel(self, reason: str) -> None:
        """Stop the order; a payment that waits is called off in the same commit."""


class Receipt(Base):
    """Proof of a payment."""

    __tablename__ = "receipts"

    id: Mapped[int] = mapped_column(primary_key=True)
    # Not unique: were a payment ever recorded twice, the report of the demo would show it.
    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id), index=True)
    charge_id: Mapped[str]

"""The public API as a typed user writes it; read by type checkers, never run."""

# pyright: strict

from datetime import datetime
from enum import StrEnum

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    UtcDateTime,
    state_column,
    transition,
    utcnow,
)


class Base(DeclarativeBase): ...


class OrderState(StrEnum):
    DRAFT = "draft"
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


S = OrderState


class Order(StatefulResource, Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    coupon: Mapped[str | None]
    charged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    state: Mapped[OrderState] = state_column(
        OrderState, initial=S.DRAFT, final=(S.COMPLETED, S.CANCELLED)
    )

    charge = Trigger.on_demand("order.charge", queue="payments", max_attempts=5)
    mail = Trigger.on_demand("order.mail")

    def has_amount(self) -> bool:
        """Nothing to charge."""
        return self.total > 0

    @transition(S.DRAFT, S.QUEUED, guard=has_amount, run_trigger=charge)
    def submit(self, *, coupon: str | None = None) -> None:
        self.coupon = coupon

    @charge.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    def process_payment(self, ctx: JobContext, *, tip: int = 0) -> None:
        self.charged_at = ctx.now

    @mail.action(S.FAILED, S.FAILED)
    async def send_mail(self, ctx: AsyncJobContext) -> None:
        await ctx.session.flush()

    @transition([S.DRAFT, S.QUEUED, S.FAILED], S.CANCELLED)
    def cancel(self, reason: str) -> None: ...


jobs = StateJobs(
    "sqlite:///shop.db", domains=[Domain("shop", resources=[Order])], queues={"payments": 5}
)

with jobs.session() as session:
    order = Order(total=42)
    session.add(order)
    order.submit(coupon="X")
    can: bool = order.submit.can()
    why: tuple[str, ...] = order.submit.why_not()
    names: tuple[str, ...] = order.available_transitions()
    Order.process_payment.enqueue(session, order, tip=3)
    order.cancel("no need")
    # Each of these must be refused; an ignore that is not needed is an error.
    order.submit(cupon="X")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    order.cancel()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    order.sumbit()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    order.state = "draft"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    Order.process_payment.enqueue(session, order, tip="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

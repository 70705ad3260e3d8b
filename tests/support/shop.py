"""The shop of the README: an order that is charged in the background."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    JobContext,
    StatefulResource,
    Trigger,
    UtcDateTime,
    metadata,
    state_column,
    transition,
    utcnow,
)
from statejobs.store.engines.factory import open_engine
from statejobs.store.rows import job_of
from statejobs.store.tables import jobs, transitions
from tests.support import kept_tables
from tests.support.ends import wrong_ends


class Base(DeclarativeBase):
    """The user's base."""


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

    def has_amount(self) -> bool:
        """Nothing to charge."""
        return self.total > 0

    @transition(S.DRAFT, S.QUEUED, guard=has_amount, run_trigger=charge)
    def submit(self, *, coupon: str | None = None) -> None:
        """Ask for the payment."""
        self.coupon = coupon

    @charge.action(S.QUEUED, S.COMPLETED, during=S.PROCESSING, failed=S.FAILED)
    def process_payment(self, ctx: JobContext) -> None:
        self.charged_at = ctx.now

    @transition(S.FAILED, S.QUEUED, run_trigger=charge)
    def retry(self) -> None:
        """Try the payment again."""

    @transition([S.DRAFT, S.QUEUED, S.FAILED], S.CANCELLED)
    def cancel(self, reason: str) -> None:
        """Stop the order."""


class StoppedClock:
    """A clock that moves only when it is told to."""

    def __init__(self, at=datetime(2030, 1, 1, 12, tzinfo=UTC)):
        self.at = at

    def now(self):
        return self.at

    def monotonic(self):
        return self.at.timestamp()

    def advance(self, **span):
        self.at += timedelta(**span)


def make_tables(engine, base=Base):
    """Create the tables of *base* and those of statejobs."""

    def make():
        metadata.create_all(engine)
        base.metadata.create_all(engine)

    kept_tables.make_tables(engine, make, "shop", *kept_tables.shapes([base.metadata]))


@contextmanager
def shop_engine(url, base=Base, **options):
    """An engine on *url* with every table; disposed at the end."""
    engine = open_engine(url, **options)
    try:
        make_tables(engine, base)
        yield engine
        assert wrong_ends(engine) == []
    finally:
        engine.dispose()


def read_jobs(bind):
    """Every job as committed, oldest first."""
    with Session(bind) as session:
        return [
            job_of(row) for row in session.execute(select(jobs).order_by(jobs.c.id))
        ]


def read_history(bind, record_id=None):
    """Steps as committed, oldest first: (name, source, target)."""
    return [
        (row.name, row.source, row.target) for row in read_history_rows(bind, record_id)
    ]


def read_history_rows(bind, record_id=None):
    """Rows of history as committed, oldest first."""
    query = select(transitions).order_by(transitions.c.id)
    if record_id is not None:
        query = query.where(transitions.c.record_id == str(record_id))
    with Session(bind) as session:
        return session.execute(query).all()


def new_order(engine, *, submitted=False, total=42):
    """Commit an order and return its id."""
    with Session(engine) as session:
        order = Order(total=total)
        session.add(order)
        if submitted:
            order.submit()
        session.commit()
        return order.id

"""A resource whose transitions run a trigger later."""

from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
    transition,
)
from tests.support.clock import manual_sources
from tests.support.parcels import close_app, contradictions


class Base(DeclarativeBase):
    """The user's base."""


class InvoiceState(StrEnum):
    DRAFT = "draft"
    SENT = "sent"
    REMINDED = "reminded"
    PAID = "paid"


S = InvoiceState


class Invoice(StatefulResource, Base):
    """Reminds of itself when it was sent, and is dropped when nobody sends it."""

    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(primary_key=True)
    drop = Trigger.on_demand("invoice.drop")
    remind = Trigger.on_demand("invoice.remind", aliases=["invoice.dun"])
    archive = Trigger.on_demand("invoice.archive")
    state: Mapped[InvoiceState] = state_column(
        InvoiceState, initial=S.DRAFT, run_trigger=drop.after(timedelta(days=30))
    )

    @drop.action(S.DRAFT, deletes=True)
    def throw_away(self, ctx: JobContext) -> None: ...

    @transition(S.DRAFT, S.SENT, run_trigger=[remind.after(days=3), archive])
    def send(self) -> None: ...

    @transition(S.REMINDED, S.SENT, run_trigger=remind.after(hours=1, minutes=30))
    def send_again(self) -> None: ...

    @remind.action(S.SENT, S.REMINDED)
    def send_reminder(self, ctx: JobContext) -> None: ...

    @archive.action([S.SENT, S.REMINDED], S.SENT)
    def store(self, ctx: JobContext) -> None: ...

    @transition([S.SENT, S.REMINDED], S.PAID)
    def pay(self) -> None: ...


@contextmanager
def office(url, clock):
    """An app on *url*; at the end record, job and history must agree."""
    app = StateJobs(
        url,
        domains=[Domain("office", resources=[Invoice])],
        sources=manual_sources(clock),
    )
    try:
        app.create_all()
        yield app
        assert contradictions(app, kinds=(Invoice,)) == []
    finally:
        close_app(app)

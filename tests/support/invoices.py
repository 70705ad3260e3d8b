"""Invoices and bookings, whose trigger and tasks say how their jobs are run; some are paused."""

from enum import StrEnum
from types import SimpleNamespace

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
    task,
    transition,
)
from tests.support.clock import ManualClock, manual_sources

script = SimpleNamespace()
"""What the action does that sends: `script.mail = lambda invoice, ctx: …`; `reset()` forgets it."""


def reset():
    """Let it do nothing."""
    script.mail = lambda _invoice, _ctx: None


reset()


class Base(DeclarativeBase):
    """The user's base."""


class InvoiceState(StrEnum):
    DRAFT = "draft"
    DUE = "due"
    SENT = "sent"
    DUNNED = "dunned"
    PAID = "paid"


S = InvoiceState


class Invoice(StatefulResource, Base):
    """Sent at once; reminders are paused."""

    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[InvoiceState] = state_column(
        InvoiceState, initial=S.DRAFT, final=(S.PAID,)
    )

    send = Trigger.on_demand("invoice.send", default_actor="system:billing")
    remind = Trigger.on_demand("invoice.remind", aliases=["invoice.dun"], paused=True)

    @transition(S.DRAFT, S.DUE, run_trigger=send)
    def issue(self) -> None:
        """Ask for it to be sent."""

    @send.action(S.DUE, S.SENT)
    def mail(self, ctx: JobContext) -> None:
        """Send it."""
        script.mail(self, ctx)

    @remind.action(S.SENT, S.DUNNED)
    def write_reminder(self, ctx: JobContext) -> None:
        """Ask for the money once more."""


@task("book.entry", default_actor="system:books")
def book(number: int) -> None:
    """Book it."""


@task("book.close", paused=True)
def close_books(year: int) -> None:
    """Nobody may, this year."""


BILLING = Domain("billing", resources=[Invoice], tasks=[book, close_books])


def make_app(database, clock=None, **options):
    """The app, which the command line can be given as well; a test may move its *clock*."""
    app = StateJobs(
        database,
        domains=[BILLING],
        sources=None if clock is None else manual_sources(clock),
        **options,
    )
    app.create_all()
    return app


def moved_app(database, **options):
    """An app whose clock stands still until the test moves it, and that clock."""
    clock = ManualClock()
    return make_app(database, clock, **options), clock

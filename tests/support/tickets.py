"""Tickets, whose states time out: by SQL alone, with a guard or a body of Python, in a family."""

from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    create_engine,
    insert,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, object_session

from statejobs import (
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    UtcDateTime,
    guard,
    stamp,
    state_column,
    transition,
)
from tests.support.clock import NOON, ManualClock, manual_sources

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Base(DeclarativeBase): ...


class TicketState(StrEnum):
    OPEN = "open"
    HELD = "held"
    ASKED = "asked"
    FAILED = "failed"
    QUEUED = "queued"
    CHARGED = "charged"
    CLOSED = "closed"


S = TicketState


def read_what_is_not_there(session):
    session.execute(text("SELECT 1 FROM no_such_table"))


def meet_another_database_that_is_away(_session):
    create_engine("sqlite:////no/such/place/app.db").connect()


FAILURES = {-1: read_what_is_not_there, -2: meet_another_database_that_is_away}
"""What a ticket with so many tries meets when it is asked again."""


class Ticket(StatefulResource, Base):
    """Closed when nobody answers; asked again, and charged again, a few times."""

    __tablename__ = "tickets"
    __table_args__ = (CheckConstraint("tries < 9", name="ck_tickets_tries"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    is_kept: Mapped[bool] = mapped_column(default=False)
    tries: Mapped[int] = mapped_column(default=0)
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    state: Mapped[S] = state_column(S, initial=S.OPEN, final=(S.CLOSED,))

    charge = Trigger.on_demand("ticket.charge", max_attempts=1)
    remind = Trigger.on_demand("ticket.remind")

    @guard(sql=lambda ticket: ~ticket.is_kept)
    def is_not_kept(self) -> bool:
        """It is kept open."""
        return not self.is_kept

    def has_tries_left(self) -> bool:
        """It has been tried often enough."""
        return self.tries < 3

    @transition(
        [S.OPEN, S.HELD],
        S.CLOSED,
        after=DAY,
        guard=is_not_kept,
        changes=stamp("closed_at"),
        allow=lambda _ticket, actor: actor == "user:admin",
    )
    def expire(self) -> None: ...

    @transition(S.ASKED, S.OPEN, after=2 * HOUR)
    def ask_again(self) -> None:
        if self.tries in FAILURES:
            FAILURES[self.tries](object_session(self))
        self.tries += 1

    @transition(
        S.FAILED, S.QUEUED, run_trigger=charge, after=HOUR, guard=has_tries_left
    )
    def retry_later(self) -> None: ...

    @transition(S.OPEN, S.HELD)
    def hold(self) -> None: ...

    @transition(S.OPEN, S.ASKED, run_trigger=remind.after(days=3))
    def ask(self) -> None: ...

    @transition([S.OPEN, S.FAILED], S.QUEUED, run_trigger=charge)
    def submit(self) -> None: ...

    @charge.action(S.QUEUED, S.CHARGED, failed=S.FAILED)
    def run_charge(self, ctx: JobContext) -> None:
        if ctx.job.actor != "user:rich":
            raise ValueError("no money")

    @remind.action(S.ASKED)
    def run_remind(self, ctx: JobContext) -> None: ...


class Case(StatefulResource, Base):
    """The base of a family."""

    __tablename__ = "cases"
    __mapper_args__ = MappingProxyType(
        {"polymorphic_on": "kind", "polymorphic_identity": "case"}
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[S] = state_column(S, initial=S.OPEN, final=(S.CLOSED,))

    @transition(S.OPEN, S.HELD, after=DAY)
    def hold(self) -> None: ...

    @transition(S.HELD, S.CLOSED, after=DAY)
    def expire(self) -> None: ...


class Complaint(Case):
    """In the same table; has a timeout of its own."""

    __mapper_args__ = MappingProxyType({"polymorphic_identity": "complaint"})

    @transition(S.OPEN, S.ASKED, after=HOUR)
    def ask(self) -> None: ...


class Lawsuit(Case):
    """In a table beside it; is never closed by itself, and begins by itself."""

    __tablename__ = "lawsuits"
    __mapper_args__ = MappingProxyType({"polymorphic_identity": "lawsuit"})

    id: Mapped[str] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    court: Mapped[str] = mapped_column(default="here")

    @transition(S.HELD, S.CLOSED)
    def expire(self) -> None: ...

    @transition(S.HELD, S.QUEUED, after=HOUR)
    def begin(self) -> None: ...


class Share(StatefulResource, Base):
    """Its guard divides, and PostgreSQL refuses to divide by zero."""

    __tablename__ = "shares"
    id: Mapped[int] = mapped_column(primary_key=True)
    parts: Mapped[int]
    state: Mapped[S] = state_column(S, initial=S.OPEN, final=(S.CLOSED,))

    @guard(sql=lambda share: 10 / share.parts > 1)
    def is_large(self) -> bool:
        """It is too small."""
        return 10 / self.parts > 1

    @transition(S.OPEN, S.CLOSED, after=DAY, guard=is_large)
    def expire(self) -> None: ...


class Lease(StatefulResource, Base):
    """Of a tenant; its job is made from the record, and its key has two columns."""

    __tablename__ = "leases"
    __tenant__ = "owner"

    house: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner: Mapped[str | None]
    remind = Trigger.on_demand(
        "lease.remind", args=lambda lease: {"house": lease.house}
    )
    state: Mapped[S] = state_column(S, initial=S.OPEN)

    @transition(S.OPEN, S.ASKED, after=DAY, run_trigger=remind)
    def ask(self) -> None: ...

    @remind.action(S.ASKED)
    def run_remind(self, ctx: JobContext, house: str) -> None: ...


@contextmanager
def office(database_url, **options):
    """An app of tickets and cases on a database of its own, by a clock that the test moves."""
    clock = ManualClock(NOON)
    resources = [Ticket, Case, Lease, Share]
    app = StateJobs(
        database_url,
        domains=[Domain("office", resources=resources)],
        sources=manual_sources(clock),
        **options,
    )
    with app:
        app.create_all()
        yield app


def timeout_of(app, key):
    """The timeout of that key."""
    return next(one for one in app.registry.timeouts if one.key == f"timeout:{key}")


def put(app, state, count, *, age, first=1, **values):
    """Write tickets that came into *state* so long ago, a millisecond after each other."""
    since = app.sources.clock.now() - age
    rows = [
        {
            "id": first + n,
            "state": state,
            "state_version": 1,
            "state_changed_at": since + n * timedelta(milliseconds=1),
            "is_kept": False,
            "tries": 0,
            **values,
        }
        for n in range(count)
    ]
    with app.engine.begin() as connection:
        connection.execute(insert(Ticket.__table__), rows)


def states(app, kind=Ticket):
    """State of each record, by its key."""
    with app.session() as session:
        rows = session.execute(select(kind.id, kind.state).order_by(kind.id))
        return dict(tuple(row) for row in rows)

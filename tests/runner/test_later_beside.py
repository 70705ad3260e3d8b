"""What is for later waits beside a running action, until somebody takes the record away."""

from enum import StrEnum

import pytest
from sqlalchemy import select, true
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    JobContext,
    JobOutcome,
    JobState,
    StatefulResource,
    StateJobs,
    Trigger,
    override_state,
    state_column,
    transition,
)
from tests.support.parcels import add, close_app


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    QUEUED = "queued"
    CHARGING = "charging"
    PAID = "paid"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Sale(StatefulResource, Base):
    """Is charged, and reminds of itself while it is not."""

    __tablename__ = "sales"

    id: Mapped[int] = mapped_column(primary_key=True)
    charge = Trigger.on_demand("sale.charge")
    remind = Trigger.on_demand("sale.remind")
    state: Mapped[S] = state_column(
        S, initial=S.QUEUED, run_trigger=[charge, remind.after(days=3)]
    )

    @charge.action(S.QUEUED, S.PAID, during=S.CHARGING, failed=S.FAILED)
    def take_money(self, ctx: JobContext) -> None:
        meanwhile()

    @remind.action(S.QUEUED, S.QUEUED)
    def send_reminder(self, ctx: JobContext) -> None: ...

    @transition(["*", S.CHARGING], S.CANCELLED)
    def cancel(self) -> None: ...

    @transition(S.CHARGING, S.QUEUED)
    def take_back(self) -> None: ...


def meanwhile():
    """Be replaced by what somebody does while the action runs."""


@pytest.fixture
def app(database_url):
    opened = StateJobs(database_url, domains=[Domain("shop", resources=[Sale])])
    try:
        opened.create_all()
        yield opened
    finally:
        close_app(opened)


def cancel(session):
    session.scalars(select(Sale)).one().cancel()


def cancel_by_bulk(session):
    assert Sale.cancel.bulk(session, where=true()).moved == 1


def override(session):
    sale = session.scalars(select(Sale)).one()
    with override_state(sale, reason="by hand"):
        sale.state = S.CANCELLED


def take_back(session):
    session.scalars(select(Sale)).one().take_back()


def drain_while(app, monkeypatch, act):
    """Run the charge while somebody else acts on its record; return the reminder."""

    def as_others():
        with app.session() as session:
            act(session)
            session.commit()

    monkeypatch.setitem(globals(), "meanwhile", as_others)
    add(app, Sale())
    app.drain()
    (reminder,) = app.queries.jobs(key="sale.remind")
    return reminder


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (cancel, "left by cancel"),
        (cancel_by_bulk, "left by cancel"),
        (override, "left by override"),
    ],
)
def test_who_takes_the_record_from_its_action_cancels_what_was_for_later(
    app, monkeypatch, act, reason
):
    reminder = drain_while(app, monkeypatch, act)

    assert (reminder.outcome, reminder.reason) == (JobOutcome.LEFT, reason)


def test_who_brings_the_record_back_cancels_nothing(app, monkeypatch):
    reminder = drain_while(app, monkeypatch, take_back)

    assert reminder.state is JobState.SCHEDULED

"""Moving from Procrastinate: its queue is drained while ours runs, and nothing is done twice."""

import threading
from enum import StrEnum

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    JobContext,
    StaleTransitionError,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
    transition,
)
from tests.support.processes import eventually

procrastinate = pytest.importorskip("procrastinate")

COUNT = 60
sent = []


class Base(DeclarativeBase): ...


class S(StrEnum):
    OPEN = "open"
    QUEUED = "queued"
    SENT = "sent"


class Invoice(StatefulResource, Base):
    __tablename__ = "invoices_that_moved"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.OPEN, final=[S.SENT])
    mailing = Trigger.on_demand("moved.send", max_attempts=1)

    @transition(S.OPEN, S.QUEUED, run_trigger=mailing)
    def send(self) -> None: ...

    @mailing.action(S.QUEUED, S.SENT)
    def run_mailing(self, ctx: JobContext) -> None:
        sent.append(self.id)


@pytest.fixture
def app(postgres_url):
    sent.clear()
    app = StateJobs(postgres_url, domains=[Domain("billing", resources=[Invoice])])
    app.create_all()
    with app.session() as session:
        session.add_all([Invoice(id=number) for number in range(1, COUNT + 1)])
        session.commit()
    yield app
    app.close()


@pytest.fixture
def old(postgres_url, app):
    """The other queue, in the same database; its task hands over to ours."""
    url = make_url(postgres_url).set(drivername="postgresql")
    conninfo = url.render_as_string(hide_password=False)
    sync = procrastinate.App(
        connector=procrastinate.SyncPsycopgConnector(conninfo=conninfo)
    )
    with sync.open():
        sync.schema_manager.apply_schema()
    made = procrastinate.App(
        connector=procrastinate.PsycopgConnector(conninfo=conninfo)
    )

    @made.task(name="send_invoice", retry=10)
    def hand_over(invoice_id: int) -> None:
        with app.session() as session:
            invoice = session.get(Invoice, invoice_id)
            if invoice is not None and invoice.send.can():
                invoice.send()
                session.commit()

    with made.open():
        for number in range(1, COUNT + 1):
            hand_over.defer(invoice_id=number)
    return made


def send_directly(app):
    """Ask for every second invoice here as well, as new code does."""
    for number in range(2, COUNT + 1, 2):
        with app.session() as session:
            invoice = session.get_one(Invoice, number)
            if invoice.send.can():
                invoice.send()
                try:
                    session.commit()
                except StaleTransitionError:
                    session.rollback()  # the other queue was first


@pytest.mark.postgres
def test_the_old_queue_is_drained_while_both_run_and_each_is_sent_once(app, old):
    requests = threading.Thread(target=send_directly, args=(app,))
    with app.running():
        requests.start()
        old.run_worker(
            wait=False,
            concurrency=4,
            listen_notify=False,
            install_signal_handlers=False,
        )
        requests.join(30)
        eventually(lambda: len(sent) >= COUNT)

    assert sorted(sent) == list(range(1, COUNT + 1))
    with app.session() as session:
        states = {invoice.state for invoice in session.query(Invoice)}
        left = session.scalars(text("SELECT DISTINCT status FROM procrastinate_jobs"))
        assert left.all() == ["succeeded"]
    assert states == {S.SENT}

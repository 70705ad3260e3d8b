"""A trigger has one open job for each record, also where that waits under a former key."""

from types import SimpleNamespace

import pytest
from sqlalchemy import insert, text, update
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
from statejobs.store.tables import jobs
from tests.resource.support import Step, statements_on
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import close_app


class Base(DeclarativeBase): ...


script = SimpleNamespace(bill=lambda _ctx: None)


class Bill(StatefulResource, Base):
    __tablename__ = "bills"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)
    bill = Trigger.on_demand("order.bill", aliases=["order.invoice", "order.invoices"])
    drop = Trigger.on_demand("order.drop")

    @transition([Step.NEW, Step.QUEUED], Step.QUEUED, run_trigger=bill)
    def submit(self) -> None: ...

    @transition([Step.QUEUED, Step.RUNNING], Step.OLD)
    def leave(self) -> None: ...

    @bill.action(Step.QUEUED, Step.DONE, during=Step.RUNNING, failed=Step.FAILED)
    def send(self, ctx: JobContext) -> None:
        script.bill(ctx)

    @drop.action(Step.QUEUED, deletes=True)
    def purge(self, ctx: JobContext) -> None: ...


class Plain(StatefulResource, Base):
    __tablename__ = "plains"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)
    bill = Trigger.on_demand("plain.bill")

    @transition([Step.NEW, Step.QUEUED], Step.QUEUED, run_trigger=bill)
    def submit(self) -> None: ...

    @bill.action(Step.QUEUED, Step.DONE)
    def send(self, ctx: JobContext) -> None: ...


@pytest.fixture
def app(database_url):
    domain = Domain("shop", resources=[Bill, Plain])
    opened = StateJobs(
        database_url, domains=[domain], sources=manual_sources(ManualClock())
    )
    opened.create_all()
    yield opened
    close_app(opened)
    script.bill = lambda _ctx: None


FORMER = {"1": "order.invoice", "2": "order.invoices"}


@pytest.fixture
def former(app):
    """Two bills whose jobs the code before the renaming enqueued."""
    with app.session() as session:
        for number in (1, 2):
            session.add(bill := Bill(id=number))
            bill.submit()
        session.commit()
    with app.engine.begin() as connection:
        for record_id, key in FORMER.items():
            connection.execute(
                update(jobs)
                .where(jobs.c.record_id == record_id)
                .values(key=key, dedupe_key=f"{key}:{record_id}")
            )


def enqueue(session):
    Bill.send.enqueue(session, session.get_one(Bill, 1))
    Bill.send.enqueue_many(session, [session.get_one(Bill, n) for n in (1, 2)])


def flush(session):
    for number in (1, 2):
        session.get_one(Bill, number).submit()


def bulk(session):
    Bill.submit.bulk(session, where=Bill.id > 0)


def bulk_of_held(session):
    held = [session.get_one(Bill, n) for n in (1, 2)]
    Bill.submit.bulk(session, where=Bill.id > 0)
    del held


ASK = [enqueue, flush, bulk, bulk_of_held]


@pytest.mark.usefixtures("former")
@pytest.mark.parametrize("ask", ASK)
def test_asking_again_goes_on_with_the_job_that_waits_under_a_former_key(app, ask):
    keys = {job.record_id: job.idempotency_key for job in app.queries.jobs()}
    seen = []
    script.bill = lambda ctx: seen.append(ctx.idempotency_key)
    with app.session() as session:
        ask(session)
        session.commit()

    found = {job.record_id: job.key for job in app.queries.jobs()}
    assert found == FORMER  # so that older code may run them, too
    app.drain()
    assert sorted(seen) == sorted(keys.values())
    assert [job.state for job in app.queries.jobs()] == ["completed"] * 2


@pytest.mark.usefixtures("former")
@pytest.mark.parametrize("ask", [enqueue, flush, bulk])
def test_asking_again_revives_a_job_that_ended_under_a_former_key(app, ask):
    for job in app.queries.jobs():
        app.cancel_job(job.id)
    with app.session() as session:
        session.execute(text("UPDATE bills SET state = 'queued'"))
        ask(session)
        session.commit()

    assert [job.state for job in app.queries.jobs()] == ["queued"] * 2


def leave(session):
    for number in (1, 2):
        session.get_one(Bill, number).leave()


def leave_in_bulk(session):
    Bill.leave.bulk(session, where=Bill.id > 0)


@pytest.mark.usefixtures("former")
@pytest.mark.parametrize("go", [leave, leave_in_bulk])
def test_a_job_under_a_former_key_is_cancelled_when_its_record_leaves(app, go):
    with app.session() as session:
        go(session)
        session.commit()

    assert [(job.state, job.reason) for job in app.queries.jobs()] == [
        ("cancelled", "left by leave")
    ] * 2


@pytest.mark.usefixtures("former")
@pytest.mark.parametrize("go", [leave, leave_in_bulk])
def test_a_job_that_runs_under_a_former_key_is_asked_to_stop_when_its_record_leaves(
    app, go
):
    app.runner().claim("default", limit=2)
    with app.session() as session:
        go(session)
        session.commit()

    assert [job.cancel_requested for job in app.queries.jobs()] == [True] * 2


@pytest.mark.usefixtures("former")
def test_a_job_under_a_former_key_ends_when_an_action_deletes_its_record(app):
    with app.session() as session:
        Bill.purge.enqueue(session, session.get_one(Bill, 1))
        session.execute(
            update(jobs).where(jobs.c.key != "order.drop").values(priority=9)
        )
        session.commit()
    (claim,) = app.runner().claim("default", limit=1)
    app.runner().run(claim)

    (job,) = (job for job in app.queries.jobs() if job.key == FORMER["1"])
    assert (job.state, job.reason) == ("cancelled", "its record was deleted by purge")


@pytest.mark.usefixtures("former")
def test_an_insert_has_nothing_of_a_job_under_a_former_key(app):
    with app.session() as session:
        session.execute(text("DELETE FROM bills"))
        session.execute(insert(Bill), [{"id": 1}, {"id": 2}])
        session.commit()

    assert [job.state for job in app.queries.jobs()] == ["cancelled"] * 2


def test_a_trigger_without_former_keys_pays_nothing_for_those_of_others(app):
    with app.session() as session, statements_on(app.engine) as count:
        plain = Plain(id=1)
        plain.submit()
        session.add(plain)
        session.commit()
        plain.submit()
        session.commit()
        Plain.send.enqueue(session, plain)
        Plain.submit.bulk(session, where=Plain.id > 0)
        session.commit()

        assert count("SET dedupe_key") == 0

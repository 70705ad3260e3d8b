"""A move may run a trigger later; whoever leaves the state in time cancels the job."""

from datetime import timedelta

import pytest
from sqlalchemy import insert, select, true

from statejobs import BulkResult, JobState, mermaid, override_state
from statejobs.values.graph import Promise
from tests.support.bills import Invoice, S, office
from tests.support.clock import ManualClock
from tests.support.parcels import add

DAY = timedelta(days=1)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def app(database_url, clock):
    with office(database_url, clock) as opened:
        yield opened


def fire(app, *names):
    """Fire transitions of the one invoice, each in a commit of its own."""
    for name in names:
        with app.session() as session:
            getattr(session.scalars(select(Invoice)).one(), name)()
            session.commit()


def job_of(app, word):
    return next(job for job in app.queries.jobs() if job.key == f"invoice.{word}")


def state_of(app):
    with app.session() as session:
        return session.scalar(select(Invoice.state))


def test_a_transition_schedules_its_job(app, clock):
    add(app, Invoice())
    fire(app, "send")

    job = job_of(app, "remind")
    assert (job.state, job.run_at) == (JobState.SCHEDULED, clock.now() + 3 * DAY)


def test_one_list_has_what_runs_now_and_what_runs_later(app):
    add(app, Invoice())
    fire(app, "send")

    assert job_of(app, "archive").state is JobState.QUEUED
    assert app.drain().counts == {"complete": 1}
    assert job_of(app, "remind").state is JobState.SCHEDULED


def test_it_runs_when_its_time_has_come(app, clock):
    add(app, Invoice())
    fire(app, "send")
    app.drain()

    clock.advance(3 * DAY - timedelta(seconds=1))
    assert app.drain().counts == {}
    clock.advance(timedelta(seconds=1))
    assert app.drain().counts == {"complete": 1}

    assert state_of(app) is S.REMINDED


def test_leaving_the_state_cancels_it(app, clock):
    add(app, Invoice())
    fire(app, "send")
    app.drain()

    fire(app, "pay")

    job = job_of(app, "remind")
    assert (job.state, job.reason) == (JobState.CANCELLED, "left by pay")
    clock.advance(4 * DAY)
    assert app.drain().counts == {}
    assert state_of(app) is S.PAID


def test_whoever_retries_it_by_a_way_back_does_not_wait(app, clock):
    add(app, Invoice())
    fire(app, "send")
    job = job_of(app, "remind")
    app.cancel_job(job.id)
    with app.session() as session:
        invoice = session.scalars(select(Invoice)).one()
        with override_state(invoice, reason="a test"):
            invoice.state = S.REMINDED
        session.commit()
    clock.advance(timedelta(hours=1))

    assert app.retry_job(job.id) is JobState.QUEUED
    assert job_of(app, "remind").run_at == clock.now()
    assert state_of(app) is S.SENT


def test_coming_back_schedules_it_anew(app, clock):
    add(app, Invoice())
    fire(app, "send")
    clock.advance(3 * DAY)
    app.drain()

    fire(app, "send_again")

    assert job_of(app, "remind").run_at == clock.now() + timedelta(minutes=90)


def test_creation_schedules_its_job(app, clock):
    add(app, Invoice())

    assert job_of(app, "drop").run_at == clock.now() + 30 * DAY
    clock.advance(30 * DAY)
    assert app.drain().counts == {"complete": 1}
    assert state_of(app) is None


def test_an_override_schedules_what_the_state_promises(app, clock):
    add(app, Invoice())
    with app.session() as session:
        invoice = session.scalars(select(Invoice)).one()
        with override_state(invoice, reason="imported"):
            invoice.state = S.SENT
        session.commit()

    assert job_of(app, "remind").run_at > clock.now()


def test_bulk_schedules_for_each_record(app, clock):
    add(app, Invoice(), Invoice())

    with app.session() as session:
        result = Invoice.send.bulk(session, where=true())
        session.commit()

    assert result == BulkResult(moved=2, inserted=4)
    reminders = [job for job in app.queries.jobs() if job.key == "invoice.remind"]
    assert [(job.state, job.run_at) for job in reminders] == [
        (JobState.SCHEDULED, clock.now() + 3 * DAY)
    ] * 2


def test_an_insert_schedules_for_each_record(app, clock):
    with app.session() as session:
        session.execute(insert(Invoice), [{}, {}])
        session.commit()

    assert [(job.state, job.run_at) for job in app.queries.jobs()] == [
        (JobState.SCHEDULED, clock.now() + 30 * DAY)
    ] * 2


def test_the_graph_says_when():
    send = Invoice.__machine__.edge("send")

    assert send.runs == (
        Promise("invoice.remind", 3 * DAY),
        Promise("invoice.archive"),
    )
    drawn = mermaid(Invoice.__machine__)
    assert (
        "draft --> sent : send ⚙ invoice.remind after 3 d ⚙ invoice.archive\n" in drawn
    )
    assert "[*] --> draft : ⚙ invoice.drop after 30 d\n" in drawn

"""What one enqueue chooses holds for its job, through every door, and joins what waits already."""

from datetime import timedelta

import pytest

from statejobs import WrongValueError
from statejobs.values.job import Enqueued
from tests.support.invoices import (
    Invoice,
    InvoiceState,
    book,
    moved_app,
    reset,
    script,
)

CHOSEN = {
    "queue": "night",
    "tags": ["vip"],
    "meta": {"trace": "abc", "pages": [1, 2]},
    "max_attempts": 2,
    "priority": 3,
    "delay": timedelta(hours=1),
}


@pytest.fixture
def office(database_url):
    app, clock = moved_app(database_url, queues={"default": 1, "night": 1})
    with app:
        yield app, clock
    reset()


@pytest.fixture
def app(office):
    return office[0]


def due(app, number=1):
    """Commit invoices that wait for their job; return their keys."""
    with app.session() as session:
        invoices = [Invoice() for _ in range(number)]
        session.add_all(invoices)
        session.commit()
        Invoice.issue.bulk(session, where=Invoice.state == InvoiceState.DRAFT)
        session.commit()
        return [invoice.id for invoice in invoices]


def chosen_by(job):
    """What an enqueue can choose, as a job has it."""
    return {
        "queue": job.queue,
        "tags": job.tags,
        "meta": job.meta,
        "max_attempts": job.max_attempts,
        "priority": job.priority,
        "delay": job.run_at - job.enqueued_at,
    }


AS_STORED = {**CHOSEN, "tags": '["vip"]'}
USUAL = {
    "queue": "default",
    "tags": "[]",
    "meta": {},
    "max_attempts": 5,
    "priority": 0,
    "delay": timedelta(),
}


def test_a_job_of_a_task_has_them(app):
    with app.session() as session:
        book.options(**CHOSEN).enqueue(session, 1)
        book.options(**CHOSEN).enqueue_many(session, [{"number": 2}, {"number": 3}])
        book.enqueue(session, 4)
        session.commit()

    *others, usual = sorted(app.queries.jobs(), key=lambda job: job.id)
    assert [chosen_by(job) for job in others] == [AS_STORED] * 3
    assert chosen_by(usual) == USUAL


def test_a_job_that_waits_takes_them_over_and_gives_them_up(app):
    (key,) = due(app)
    with app.session() as session:
        invoice = session.get_one(Invoice, key)
        found = Invoice.mail.options(**CHOSEN).enqueue(session, invoice)
        session.commit()
        (job,) = app.queries.jobs()
        assert chosen_by(job) == AS_STORED
        assert found.outcome is Enqueued.COALESCED

        Invoice.mail.enqueue(session, invoice)
        session.commit()

    (job,) = app.queries.jobs()
    assert {**chosen_by(job), "delay": timedelta()} == USUAL


def test_many_records_have_them(app):
    keys = due(app, 3)
    with app.session() as session:
        invoices = [session.get_one(Invoice, key) for key in keys]
        Invoice.mail.options(**CHOSEN).enqueue_many(session, invoices)
        session.commit()

    assert [chosen_by(job) for job in app.queries.jobs()] == [AS_STORED] * 3


def test_other_meta_is_the_same_work(app):
    (key,) = due(app)
    (before,) = app.queries.jobs()
    with app.session() as session:
        invoice = session.get_one(Invoice, key)
        Invoice.mail.options(meta={"other": 1}).enqueue(session, invoice)
        session.commit()

    (job,) = app.queries.jobs()
    assert job.meta == {"other": 1}
    assert job.idempotency_key == before.idempotency_key


def test_a_later_choice_leaves_the_others_as_they_were(app):
    with app.session() as session:
        book.options(**CHOSEN).options(meta={}, queue="default").enqueue(session, 1)
        session.commit()

    (job,) = app.queries.jobs()
    assert chosen_by(job) == {**AS_STORED, "meta": {}, "queue": "default"}


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"queue": 5}, "options: queue must be text, not 5"),
        ({"queue": "a b"}, "options(…): queue 'a b' is not a stable name"),
        ({"tags": "vip"}, "options: tags= takes a collection, not 'vip' alone"),
        ({"tags": [1]}, 'options: tags=: each must be text, not 1; say ["nightly"]'),
        ({"priority": -1}, "priority -1 is not between 0 (first) and 9 (last)"),
        (
            {"priority": "1"},
            "options(priority=…) must be a whole number, not '1'; say priority=5",
        ),
        ({"meta": [1]}, "options: meta must be a mapping, not [1]"),
        (
            {"meta": {"at": {1, 2}}},
            "options: meta['at'] is set, but would come back as list",
        ),
        (
            {"meta": {"n": float("nan")}},
            "options: meta['n'] is nan, and JSON has no such number",
        ),
        ({"meta": {"n": "x" * 8200}}, "options: meta takes 8208 bytes of JSON"),
        ({"max_attempts": 0}, "options(…): max_attempts=0"),
        ({"max_attempts": True}, "options(…): max_attempts=True"),
    ],
)
def test_what_no_job_could_have_is_refused_at_once(chosen, says):
    for request in (book, Invoice.mail):
        with pytest.raises(WrongValueError) as refused:
            request.options(**chosen)

        assert says in str(refused.value).splitlines()[0]


def test_an_option_that_there_is_not_is_told_with_the_closest_that_there_is():
    for request in (book, Invoice.mail):
        with pytest.raises(WrongValueError) as refused:
            request.options(prio=1)

        said = str(refused.value)
        assert said.startswith("….options() in test_one_enqueue.py, line ")
        assert "unknown option 'prio'" in said
        assert "did you mean 'priority'?" in said


# Attempts that one enqueue chose ------------------------------------------------------------


def run_out(app, clock, waits):
    """Let a job fail until it is discarded; note each wait."""
    for _ in range(20):
        app.drain()
        (job,) = app.queries.jobs()
        if job.state.value == "discarded":
            break
        waits.append(job.run_at - clock.now())
        clock.advance(job.run_at - clock.now())
    return job


@pytest.mark.parametrize("most", [2, 8])
def test_waits_of_chosen_attempts_begin_with_the_first(office, most):
    app, clock = office
    script.mail = fail
    (key,) = due(app)
    with app.session() as session:
        chosen = Invoice.mail.options(max_attempts=most)
        chosen.enqueue(session, session.get_one(Invoice, key))
        session.commit()

    waits = []
    job = run_out(app, clock, waits)

    assert job.attempt == most
    assert len(waits) == most - 1
    least = [timedelta(seconds=15 + 2**step) for step in range(1, most)]
    assert all(wait >= at_least for wait, at_least in zip(waits, least, strict=True))
    assert waits[0] < timedelta(seconds=19)


def test_a_retry_grants_as_many_again(office):
    app, clock = office
    script.mail = fail
    (key,) = due(app)
    with app.session() as session:
        chosen = Invoice.mail.options(max_attempts=2)
        chosen.enqueue(session, session.get_one(Invoice, key))
        session.commit()
    run_out(app, clock, [])

    (job,) = app.queries.jobs()
    app.retry_job(job.id)
    waits = []
    job = run_out(app, clock, waits)

    assert (job.attempt, job.max_attempts) == (4, 4)
    assert len(waits) == 1
    assert waits[0] < timedelta(seconds=19)


def test_a_job_that_runs_again_has_those_of_the_last_request(office):
    app, _ = office
    (key,) = due(app)

    def ask_again(invoice, ctx):
        with app.session() as session:
            again = Invoice.mail.options(max_attempts=9, meta={"again": True})
            again.enqueue(session, session.get_one(Invoice, key))
            session.commit()
        raise ValueError("not this time")

    script.mail = ask_again
    app.step()

    (job,) = app.queries.jobs()
    assert (job.state.value, job.attempt, job.max_attempts) == ("queued", 0, 9)
    assert job.meta == {"again": True}


def fail(_invoice, _ctx):
    raise ValueError("no paper")

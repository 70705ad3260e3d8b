"""Jobs of a paused trigger or task are enqueued and wait, whoever runs what waits beside them."""

from datetime import timedelta

import pytest
from sqlalchemy import event, update

from statejobs import DefinitionError, Domain, JobState, StateJobs, Trigger, task
from statejobs.people.jobs import job_page
from statejobs.people.records import record_page
from statejobs.people.status import status_of
from statejobs.store.tables import jobs
from tests.cli.conftest import Shell
from tests.support.invoices import (
    Invoice,
    InvoiceState,
    book,
    close_books,
    make_app,
    moved_app,
)
from tests.support.processes import eventually

PAUSED = "is paused: its jobs wait until code without paused=True is deployed"


@pytest.fixture
def office(database_url):
    """An app, and the clock that its test moves."""
    app, clock = moved_app(database_url)
    with app:
        yield app, clock


def ask(app, request, *args, **kwargs):
    """Enqueue a task; return the id of its job."""
    with app.session() as session:
        found = request.enqueue(session, *args, **kwargs)
        session.commit()
        return found.job_id


def sent(app):
    """Return the job of a reminder for a new invoice that was sent."""
    with app.session() as session:
        invoice = Invoice()
        session.add(invoice)
        session.flush()
        invoice.issue()
        session.commit()
        app.drain()
        session.refresh(invoice)
        found = Invoice.write_reminder.enqueue(session, invoice)
        session.commit()
        return found.job_id


def states(app, *ids):
    return [app.queries.job(job_id).state.value for job_id in ids]


def test_drain_runs_what_is_beside_them(office):
    app, _ = office
    reminder, closing, entry = (
        sent(app),
        ask(app, close_books, 2030),
        ask(app, book, 1),
    )

    ended = app.drain()

    assert states(app, reminder, closing, entry) == ["queued", "queued", "completed"]
    assert len(ended.ended) == 1


def test_a_worker_leaves_them_out(database_url):
    with make_app(database_url) as app:
        closings = [ask(app, close_books, year) for year in range(20)]
        with app.running():
            entry = ask(app, book, 1)
            eventually(lambda: states(app, entry) == ["completed"])

        assert {*states(app, *closings)} == {"queued"}
        assert all(app.queries.job(id_).attempt == 0 for id_ in closings)


def test_one_that_is_due_later_waits_as_well(office):
    app, clock = office
    closing = ask(app, close_books.options(delay=timedelta(hours=1)), 2030)
    clock.advance(hours=2)

    app.drain()

    assert states(app, closing) == ["scheduled"]


def test_those_under_a_former_key_wait_too(office):
    app, _ = office
    reminder = sent(app)
    with app.engine.begin() as connection:
        connection.execute(update(jobs).values(key="invoice.dun"))

    app.drain()

    assert states(app, reminder) == ["queued"]


def test_one_that_ran_when_its_worker_died_is_rescued_and_waits(office):
    app, clock = office
    (claim,) = started(app, ask(app, close_books, 2030))
    clock.advance(hours=1)

    app.runner().rescue()
    app.drain()

    found = app.queries.job(claim.id)
    assert (found.state, found.crashes) == (JobState.QUEUED, 1)


def started(app, job_id):
    """Let another version of the code, in which it is not paused, begin a job, and die."""

    @task("book.close")
    def close(year: int) -> None:
        """Nobody minds."""

    other = StateJobs(
        app.engine, domains=[Domain("old", tasks=[close])], sources=app.sources
    )
    return [claim.job for claim in other.runner().claim("default", limit=1)]


def test_they_run_once_the_code_no_longer_says_so(office):
    app, _ = office
    closing = ask(app, close_books, 2030)
    ran = []

    @task("book.close")
    def close(year: int) -> None:
        ran.append(year)

    other = StateJobs(
        app.engine, domains=[Domain("new", tasks=[close])], sources=app.sources
    )
    other.drain()

    assert ran == [2030]
    assert states(app, closing) == ["completed"]


def test_a_claim_beside_them_costs_no_statement_more(office):
    app, _ = office
    ask(app, book, 1)
    alone = statements_of_a_step(app)
    ask(app, close_books, 2030)
    ask(app, book, 2)

    assert statements_of_a_step(app) == alone


def statements_of_a_step(app):
    """How many statements it takes to run one job."""
    sent = []
    event.listen(app.engine, "before_cursor_execute", lambda *told: sent.append(told))
    assert len(app.step()) == 1
    return len(sent)


def test_status_counts_what_waits(office):
    app, _ = office
    sent(app)
    ask(app, close_books, 2030)
    ask(app, close_books.options(delay=timedelta(hours=1)), 2031)

    found = status_of(app.desk, "billing")

    assert {one.key: one.waiting for one in found.paused} == {
        "invoice.remind": 1,
        "invoice.dun": 0,
        "book.close": 2,
    }


def test_the_pages_of_job_and_record_say_why(office):
    app, _ = office
    job = app.queries.job(sent(app))

    assert job_page(app.desk, job).obstacle == f"'invoice.remind' {PAUSED}"
    record = record_page(app.desk, Invoice.__statejobs__, (1,))
    assert record.state == InvoiceState.SENT
    assert record.obstacle == f"'invoice.remind' {PAUSED}"


def test_a_job_beside_it_has_no_such_obstacle(office):
    app, _ = office
    job = app.queries.job(ask(app, book, 1))

    assert PAUSED not in (job_page(app.desk, job).obstacle or "")


def test_the_command_line_says_why(database_url):
    with make_app(database_url) as app:
        job_id = ask(app, close_books, 2030)
        typed = Shell("tests.support.invoices:make_app", database_url)

        shown = " ".join(typed("job", "show", str(job_id)).stdout.split())
        status = typed("status").stdout

    assert f"'book.close' {PAUSED}" in shown
    (_, _, below) = status.partition("Paused by paused=True in the code")
    assert ["book.close", "1"] in [line.split() for line in below.splitlines()]


@pytest.mark.parametrize("declare", [Trigger.on_demand, task])
def test_what_is_neither_yes_nor_no_is_refused(declare):
    with pytest.raises(DefinitionError) as refused:
        declare("a.b", paused="yes")

    kind = "task" if declare is task else "trigger"
    assert str(refused.value).splitlines() == [
        f"{kind} 'a.b': paused='yes'",
        "  why: its jobs wait, or they do not",
        "  fix: give paused=True, or leave it out",
    ]

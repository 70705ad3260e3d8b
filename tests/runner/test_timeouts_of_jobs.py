"""A timeout that is a function of the job holds for each attempt as it says."""

import asyncio
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from statejobs import (
    AsyncJobContext,
    DefinitionError,
    Domain,
    JobContext,
    JobState,
    StateJobs,
    Trigger,
    WorkerSettings,
    task,
)
from tests.support.clock import ManualClock, manual_sources

script = SimpleNamespace()
MINUTE = timedelta(minutes=1)


def told(job):
    """What the test says of a job."""
    return script.timeout(job)


@task("scan.page", timeout=told, max_attempts=2, backoff=MINUTE)
def scan(ctx: JobContext, pages: int = 1) -> None:
    script.body(ctx)


@task("scan.soon", timeout=told, max_attempts=1)
async def scan_soon(ctx: AsyncJobContext) -> None:
    await script.body(ctx)


@task("scan.usual")
def usual() -> None:
    """Takes as long as it takes."""


@pytest.fixture
def app(database_url):
    script.timeout = lambda _job: None
    script.body = lambda _ctx: None
    with StateJobs(
        database_url,
        domains=[Domain("scans", tasks=[scan, scan_soon, usual])],
        settings=WorkerSettings(timeout_grace=timedelta(seconds=0.2)),
        sources=manual_sources(ManualClock()),
    ) as app:
        app.create_all()
        yield app


def run(app, request=scan, **args):
    """Run one job; return it as it is then, and its failed attempts."""
    with app.session() as session:
        job_id = request.enqueue(session, **args).job_id
        session.commit()
    app.drain()
    return app.queries.job(job_id), app.queries.attempts(job_id)


def wait_until_asked_to_stop(ctx):
    while not ctx.cancel_requested:
        threading.Event().wait(0.01)


async def wait_for_ever(_ctx):
    await asyncio.Event().wait()


def test_a_body_that_takes_longer_has_failed(app):
    script.timeout = lambda job: timedelta(seconds=0.1 * job.attempt)
    script.body = wait_until_asked_to_stop

    job, (attempt,) = run(app)

    assert job.state is JobState.FAILED
    assert attempt["message"] == "no end after 0.1 s, its timeout"


def test_an_async_body_that_takes_longer_has_failed(app):
    script.timeout = lambda _job: timedelta(seconds=0.1)
    script.body = wait_for_ever

    job, (attempt,) = run(app, scan_soon)

    assert job.state is JobState.DISCARDED
    assert attempt["message"] == "no end after 0.1 s, its timeout"


def test_it_is_asked_of_the_job_with_its_attempt_counted(app):
    asked = []
    script.timeout = asked.append

    job, _ = run(app, pages=3)

    assert job.state is JobState.COMPLETED
    assert [(one.id, one.attempt, one.args) for one in asked] == [
        (job.id, 1, '{"pages":3}')
    ]


def test_none_is_no_timeout(app):
    threads = []
    script.body = lambda _ctx: threads.append(threading.current_thread())

    job, _ = run(app)

    assert job.state is JobState.COMPLETED
    assert threads == [threading.current_thread()]


@pytest.mark.parametrize("request_", [scan, scan_soon], ids=["def", "async def"])
@pytest.mark.parametrize(
    ("timeout", "message"),
    [
        (lambda _job: 1 / 0, "division by zero"),
        (
            lambda _job: 5,
            "what timeout= of '{key}' returned must be a timedelta, not 5",
        ),
        (
            lambda _job: timedelta(0),
            "timeout= of '{key}' returned 0:00:00: the attempt would end before it began",
        ),
    ],
    ids=["raises", "number", "none at all"],
)
def test_one_that_cannot_tell_has_failed_the_attempt(app, request_, timeout, message):
    called = []
    script.timeout = timeout
    script.body = called.append

    job, (attempt,) = run(app, request_)

    assert called == []
    assert job.attempt == 1
    assert message.format(key=job.key) in " ".join(attempt["message"].split()).replace(
        " why:", ":"
    )


@pytest.mark.postgres
def test_its_transaction_may_stand_idle_for_as_long(app):
    if app.engine.dialect.name == "sqlite":
        pytest.skip("it limits no transaction")
    found = []

    def body(ctx):
        ctx.session.execute(text("CREATE TEMP TABLE pages (id integer)"))
        shown = text("SHOW idle_in_transaction_session_timeout")
        found.append(ctx.session.scalar(shown))

    script.body = body
    script.timeout = lambda _job: timedelta(minutes=20)

    run(app)

    assert found == ["1200200ms"]


@pytest.mark.parametrize("declare", [Trigger.on_demand, task])
@pytest.mark.parametrize(
    ("timeout", "says"),
    [
        (lambda: MINUTE, "timeout= cannot be called: too many positional arguments"),
        (timedelta(0), "timeout=0:00:00"),
    ],
)
def test_what_cannot_be_one_is_refused_where_it_is_given(declare, timeout, says):
    with pytest.raises(DefinitionError) as refused:
        declare("a.b", timeout=timeout)

    assert says in str(refused.value).splitlines()[0]


def test_an_async_function_is_refused():
    async def later(_job):
        return MINUTE

    with pytest.raises(DefinitionError, match="timeout= is async"):
        task("a.b", timeout=later)

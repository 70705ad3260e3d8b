"""Jobs whose worker died: most were only neighbours of what killed it."""

import threading
import time
from datetime import timedelta

import pytest

from statejobs import Domain, JobContext, StateJobs, WorkerSettings, task
from statejobs.values.clock import Sources
from tests.support.clock import manual_sources
from tests.support.parcels import LEASE, close_app
from tests.support.processes import DEADLINE
from tests.support.services import run_service


def _body(_ctx):
    """What the tasks do when the test does not care."""


script = {"body": _body}


@task("suspect.sturdy", max_attempts=5, max_crashes=3)
def sturdy(ctx: JobContext) -> None:
    script["body"](ctx)


@task("suspect.twice", max_attempts=2)
def twice(ctx: JobContext) -> None:
    script["body"](ctx)


@task("suspect.frail", max_attempts=5, max_crashes=2)
def frail(ctx: JobContext) -> None:
    script["body"](ctx)


KINDS = {"last attempt": twice, "last crash": frail}
DOMAIN = Domain("suspects", tasks=[sturdy, twice, frail])


@pytest.fixture(autouse=True)
def _forget_script():
    yield
    script["body"] = _body


@pytest.fixture
def app(database_url, clock):
    """An app whose clock the test moves."""
    opened = StateJobs(database_url, domains=[DOMAIN], sources=manual_sources(clock))
    opened.create_all()
    yield opened
    close_app(opened)


def ask(app, kind, number=1):
    """Commit jobs; return their ids."""
    with app.session() as session:
        ids = [kind.enqueue(session).job_id for _ in range(number)]
        session.commit()
    return ids


def crash(app, clock, *, limit=100):
    """Let a worker claim and die, and another take its jobs back."""
    runner = app.runner()
    runner.claim("default", limit=limit)
    clock.advance(LEASE + timedelta(seconds=1))
    assert app.runner().rescue() > 0


def claimed(app, *, limit=100, **options):
    """What a worker would claim now, as ids."""
    runner = app.runner()
    claims = runner.claim("default", limit=limit, **options)
    for claim in claims:
        runner.finisher.release(claim)
    return [claim.job.id for claim in claims]


# Which ------------------------------------------------------------------------------------------


def test_after_one_crash_all_jobs_of_a_worker_are_claimed_at_once(app, clock):
    ids = ask(app, sturdy, 20)
    crash(app, clock)

    assert claimed(app) == ids


def test_from_the_second_crash_on_a_suspect_runs_alone(app, clock):
    ids = ask(app, sturdy, 5)
    crash(app, clock)
    crash(app, clock)
    fresh = ask(app, sturdy, 2)

    assert claimed(app) == [ids[0], *fresh]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_the_next_crash_would_end_runs_alone_from_the_first_on(app, clock, kind):
    ids = ask(app, kind, 5)
    crash(app, clock)
    fresh = ask(app, kind, 2)

    assert claimed(app) == [ids[0], *fresh]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_runs_alone_is_left_out_where_others_may_share(app, clock, kind):
    shared = ask(app, sturdy, 2)
    ask(app, kind, 2)
    crash(app, clock)

    assert claimed(app) == shared


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_runs_alone_hides_no_work_while_others_that_share_are_here(
    app, clock, kind
):
    (first,) = ask(app, sturdy)
    ask(app, kind, 5)
    (last,) = ask(app, sturdy)
    crash(app, clock)
    worker = app.worker()
    runner = app.runner()
    held = runner.claim("default", limit=1)
    worker.held.add(held)

    assert [claim.job.id for claim in held] == [first]
    assert claimed(app, limit=1, suspects=worker.held.suspects) == [last]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_beside_what_runs_alone_there_is_no_other_suspect(app, clock, kind):
    (alone,) = ask(app, kind)
    ask(app, sturdy, 3)
    crash(app, clock)
    fresh = ask(app, sturdy, 2)
    worker = app.worker()
    held = app.runner().claim("default", limit=1)
    worker.held.add(held)

    assert [claim.job.id for claim in held] == [alone]
    assert claimed(app, suspects=worker.held.suspects) == fresh


def test_a_round_takes_back_a_hundred_and_the_next_comes_soon(app, clock):
    ask(app, sturdy, 101)
    runner = app.runner()
    for _ in range(2):
        runner.claim("default", limit=100)
    clock.advance(LEASE + timedelta(seconds=1))
    worker = app.worker()

    assert run_service(worker, "rescue") is False
    assert run_service(worker, "rescue") is True
    assert len(claimed(app, limit=200)) == 101


# When -------------------------------------------------------------------------------------------


@pytest.fixture
def idle_app(database_url):
    """An app on the real clock whose worker looks for work by itself once in ten minutes."""
    settings = WorkerSettings(
        lease=timedelta(seconds=3),
        heartbeat=timedelta(seconds=0.3),
        rescue=timedelta(seconds=0.3),
        poll=timedelta(minutes=10),
    )
    app = StateJobs(
        database_url,
        domains=[DOMAIN],
        queues={"default": 20},
        settings=settings,
        sources=Sources(),
    )
    app.create_all()
    yield app
    close_app(app)


def let_lapse(app):
    """Let a worker claim what is queued, and die."""
    app.runner().claim("default", limit=100)
    time.sleep(app.settings.lease.total_seconds() + 0.1)  # noqa: TID251 - a lease runs out


def test_the_next_suspect_starts_when_one_has_ended(idle_app):
    ran, all_ran = [], threading.Event()

    def body(ctx):
        ran.append(ctx.job.id)
        if len(ran) == 5:
            all_ran.set()

    script["body"] = body
    ask(idle_app, twice, 5)
    let_lapse(idle_app)

    with idle_app.running():
        assert all_ran.wait(DEADLINE)


def test_one_long_suspect_holds_up_no_short_one(idle_app):
    go_on, short = threading.Event(), threading.Semaphore(0)
    ids = ask(idle_app, sturdy, 6)

    def body(ctx):
        if ctx.job.id == ids[0]:
            go_on.wait(DEADLINE)
        else:
            short.release()

    script["body"] = body
    let_lapse(idle_app)

    with idle_app.running():
        try:
            for _ in range(5):
                assert short.acquire(timeout=DEADLINE)
        finally:
            go_on.set()

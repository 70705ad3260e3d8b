"""A running job that somebody wants to stop: how soon it is told, and what ends what goes on."""

import asyncio
import os
import signal
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest

from statejobs import (
    AsyncJobContext,
    Domain,
    JobContext,
    JobOutcome,
    JobState,
    StateJobs,
    WorkerSettings,
    task,
    workers,
)
from statejobs.events import JobAbandoned
from tests.support import parcels
from tests.support.processes import eventually
from tests.support.worker_app import make_app
from tests.worker.conftest import job, send_parcel, wait_until_carried

SOON = 8  # seconds, well below a heartbeat that nobody has called

script = SimpleNamespace()


@task("stop.wait", queue="work")
def wait_for_it(ctx: JobContext) -> None:
    script.wait(ctx)


@task("stop.timed", queue="work", timeout=timedelta(minutes=5), max_attempts=1)
def wait_in_time(ctx: JobContext) -> None:
    script.wait(ctx)


@task("stop.awaited", queue="work")
async def await_it(ctx: AsyncJobContext) -> None:
    await script.wait(ctx)


@task("stop.other", queue="work")
def other(ctx: JobContext) -> None:
    """What needs a slot."""


DOMAIN = Domain(
    "stop",
    resources=[parcels.Parcel],
    tasks=[wait_for_it, wait_in_time, await_it, other],
)


def open_app(url, **settings):
    app = StateJobs(
        url,
        domains=[DOMAIN],
        queues={"work": 1, "default": 1},
        settings=WorkerSettings(timeout_grace=timedelta(seconds=0.3), **settings),
    )
    app.create_all()
    return app


@pytest.fixture
def app(database_url):
    """An app with one slot, whose heartbeats are quick."""
    opened = open_app(
        database_url, lease=timedelta(seconds=20), heartbeat=timedelta(seconds=0.3)
    )
    yield opened
    opened.engine.dispose()


@pytest.fixture
def slow(postgres_url):
    """An app whose heartbeats are too slow to tell anything."""
    opened = open_app(
        postgres_url, lease=timedelta(minutes=10), heartbeat=timedelta(minutes=5)
    )
    yield opened
    opened.engine.dispose()


def ask(app, wanted):
    """Commit one job; return its id."""
    with app.session() as session:
        job_id = wanted.enqueue(session).job_id
        session.commit()
    return job_id


def is_in(app, job_id, state):
    return lambda: app.queries.job(job_id).state is state


# How soon


@pytest.mark.postgres
def test_it_is_told_at_once_on_postgresql(slow):
    job_id = ask(slow, wait_for_it)
    told = threading.Event()

    def wait(ctx):
        eventually(lambda: ctx.cancel_requested)
        told.set()

    script.wait = wait
    with slow.running():
        eventually(is_in(slow, job_id, JobState.PROCESSING))
        slow.cancel_job(job_id)

        assert told.wait(SOON)
        eventually(lambda: slow.queries.job(job_id).finished_at)


@pytest.mark.postgres
@pytest.mark.parametrize("in_bulk", [False, True], ids=["by one", "in bulk"])
def test_it_is_told_at_once_that_its_record_was_moved_away(slow, in_bulk):
    parcels.script.send = lambda _parcel, ctx: eventually(lambda: ctx.cancel_requested)
    (key,) = parcels.send(slow)
    (running,) = slow.queries.jobs()
    with slow.running():
        eventually(is_in(slow, running.id, JobState.PROCESSING))
        if in_bulk:
            with slow.session() as session:
                parcels.Parcel.drop.bulk(session, where=parcels.Parcel.id == key)
                session.commit()
        else:
            parcels.fire(slow, parcels.Parcel, key, "drop")

        eventually(is_in(slow, running.id, JobState.CANCELLED), seconds=SOON)

    parcels.reset_script()
    assert slow.queries.job(running.id).outcome is JobOutcome.SUPERSEDED
    assert parcels.state_of(slow, parcels.Parcel, key) == "dropped"


@pytest.mark.postgres
def test_a_selection_tells_every_node_whose_jobs_run(slow):
    script.wait = lambda ctx: eventually(lambda: ctx.cancel_requested)
    ids = [ask(slow, wait_for_it) for _ in range(2)]
    with slow.running(), slow.running():
        for job_id in ids:
            eventually(is_in(slow, job_id, JobState.PROCESSING))
        assert slow.select(key="stop.wait").cancel().asked == 2

        for job_id in ids:
            eventually(lambda: slow.queries.job(job_id).finished_at, seconds=SOON)  # noqa: B023


def test_a_heartbeat_tells_it_when_the_signal_is_lost(app, monkeypatch):
    def make_deaf(engine, node_id, on_wake, rng, *, on_cancel):
        return original(engine, node_id, on_wake, rng)

    original = workers.make_listener
    monkeypatch.setattr(workers, "make_listener", make_deaf)
    job_id = ask(app, wait_for_it)
    script.wait = lambda ctx: eventually(lambda: ctx.cancel_requested)
    with app.running():
        eventually(is_in(app, job_id, JobState.PROCESSING))
        app.cancel_job(job_id)

        eventually(lambda: app.queries.job(job_id).finished_at)


# What ends it


def test_a_task_that_goes_on_is_cancelled(app):
    caught = []

    async def wait(_ctx):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            caught.append(True)
            raise

    script.wait = wait
    job_id = ask(app, await_it)
    with app.running():
        eventually(is_in(app, job_id, JobState.PROCESSING))
        app.cancel_job(job_id, reason="no need")
        eventually(is_in(app, job_id, JobState.CANCELLED))
        next_id = ask(app, other)
        eventually(is_in(app, next_id, JobState.COMPLETED))

    assert caught == [True]
    assert app.queries.job(job_id).reason == "no need"


def test_a_task_that_minds_no_cancel_is_given_up(app):
    let_go = threading.Event()

    async def wait(_ctx):
        while not let_go.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    script.wait = wait
    job_id = ask(app, await_it)
    with app.running() as worker:
        eventually(is_in(app, job_id, JobState.PROCESSING))
        app.cancel_job(job_id)
        eventually(is_in(app, job_id, JobState.CANCELLED))
        next_id = ask(app, other)
        eventually(is_in(app, next_id, JobState.COMPLETED))
        let_go.set()
        eventually(lambda: worker.held.is_empty)


@pytest.mark.parametrize("wanted", [wait_for_it, wait_in_time], ids=["bare", "timed"])
def test_a_thread_that_goes_on_is_given_up_and_its_slot_serves_others(app, wanted):
    let_go, abandoned = threading.Event(), []
    app.telemetry.subscribe(abandoned.append, JobAbandoned)
    script.wait = lambda _ctx: let_go.wait(60)
    job_id = ask(app, wanted)
    with app.running() as worker:
        eventually(is_in(app, job_id, JobState.PROCESSING))
        app.cancel_job(job_id, reason="no need")
        eventually(is_in(app, job_id, JobState.CANCELLED))
        ids = [ask(app, other) for _ in range(3)]
        for next_id in ids:
            eventually(is_in(app, next_id, JobState.COMPLETED))
        let_go.set()
        eventually(lambda: worker.held.is_empty)
        last_id = ask(app, other)
        eventually(is_in(app, last_id, JobState.COMPLETED))

    assert [told.job.id for told in abandoned] == [job_id]
    stopped = app.queries.job(job_id)
    assert (stopped.state, stopped.reason) == (JobState.CANCELLED, "no need")
    assert stopped.attempt == 1


def test_a_thread_that_ends_in_time_has_completed(app):
    script.wait = lambda ctx: eventually(lambda: ctx.cancel_requested)
    job_id = ask(app, wait_for_it)
    with app.running():
        eventually(is_in(app, job_id, JobState.PROCESSING))
        app.cancel_job(job_id)
        eventually(is_in(app, job_id, JobState.COMPLETED))


def test_a_killed_worker_does_not_forget_it(database_url, start_worker, tmp_path):
    app = make_app(database_url)
    app.create_all()
    send_parcel(app, tmp_path / "never")
    first = start_worker(app)
    wait_until_carried(tmp_path / "never")
    (pid,) = first.children()
    os.kill(pid, signal.SIGSTOP)
    app.cancel_job(job(app).id, reason="no need")
    os.kill(pid, signal.SIGKILL)

    eventually(lambda: job(app).state is JobState.CANCELLED)

    assert (job(app).attempt, job(app).reason) == (1, "no need")
    app.engine.dispose()

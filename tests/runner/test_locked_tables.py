"""A migration that locks a table of ours is named, and costs no job, no lease and no attempt."""

import logging
import threading
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest
from sqlalchemy.exc import DBAPIError

from statejobs import JobState, Sources, StateJobs, WorkerSettings
from statejobs.runner.keeper import HeldClaims, Keeper
from statejobs.store.engines.reserve import SHARED
from statejobs.store.expired import find_expired
from statejobs.store.faults import Fault, fault_of
from statejobs.store.hold import find_owned, renew_leases
from statejobs.store.nodes import (
    beat_node,
    count_held,
    forget_silent_nodes,
    register_node,
    remove_node,
)
from statejobs.store.staging import find_due, stage_due, stage_listed
from statejobs.store.strangers import peek_queues
from tests.support import parcels
from tests.support.parcels import (
    POST,
    Letter,
    Message,
    Parcel,
    attempts_of,
    close_app,
    enqueue,
    job_of,
    send,
)
from tests.support.processes import eventually

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]

LEASE = timedelta(seconds=2)
SETTINGS = WorkerSettings(
    lease=LEASE,
    heartbeat=timedelta(seconds=0.3),
    poll=timedelta(seconds=0.1),
    rescue=timedelta(seconds=0.2),
)
KINDS = [
    (Parcel, "send_off", "send"),
    (Letter, "press", "seal"),
    (Letter, "put_on_scale", "weigh"),
]


@pytest.fixture
def app(postgres_url):
    """An app on the clock of this machine."""
    app = open_app(postgres_url)
    app.create_all()
    yield app
    parcels.reset_script()
    close_app(app)


@pytest.fixture
def other(app, postgres_url):
    """An app beside, which rescues as well."""
    other = open_app(postgres_url)
    yield other
    close_app(other)


def open_app(url):
    return StateJobs(
        url, domains=[POST], settings=SETTINGS, sources=Sources(), queues={"default": 4}
    )


@contextmanager
def locked(app, table):
    """Somebody alters *table*, and takes his time."""
    with app.engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        try:
            yield connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        finally:
            connection.exec_driver_sql("ROLLBACK")


def pause(seconds):
    """Let time pass on the clock of this machine."""
    threading.Event().wait(seconds)


def is_completed(app, kind, key):
    return job_of(app, kind, key).state is JobState.COMPLETED


@contextmanager
def paused_bodies(name):
    """Let the action called *name* run until the test opens the gate."""
    begun, gate, runs = threading.Event(), threading.Event(), []

    def wait(*_args):
        runs.append(1)
        begun.set()
        assert gate.wait(60)

    setattr(parcels.script, name, wait)
    try:
        yield begun, gate, runs
    finally:
        gate.set()


def test_the_look_names_the_table_and_who_has_locked_it(app, caplog):
    with caplog.at_level(logging.WARNING), app.running():
        with locked(app, "statejobs_jobs") as process:
            eventually(
                lambda: f"locked 'statejobs_jobs' (process {process})" in caplog.text
            )
        (key,) = send(app)
        eventually(lambda: is_completed(app, Parcel, key))

    assert "is away" not in caplog.text
    assert attempts_of(app, Parcel, key) == []


@pytest.mark.parametrize("table", ["statejobs_jobs", "statejobs_nodes"])
def test_no_live_job_is_taken_for_dead_beside_a_lock_that_outlasts_its_lease(
    app, other, table, caplog
):
    with paused_bodies("send") as (begun, gate, runs), app.running(), other.running():
        (key,) = send(app)
        assert begun.wait(60)
        with locked(app, table):
            pause(LEASE.total_seconds() * 2)
        pause(LEASE.total_seconds())
        gate.set()
        eventually(lambda: is_completed(app, Parcel, key))

    job = job_of(app, Parcel, key)
    assert (len(runs), job.attempt, job.crashes) == (1, 1, 0)
    assert "leases of jobs" not in caplog.text
    assert f"locked '{table}'" in caplog.text


@pytest.mark.parametrize("table", ["statejobs_jobs", "statejobs_nodes"])
def test_a_heartbeat_needs_no_connection_of_those_who_wait_for_the_table(
    app, table, caplog
):
    send(app)
    runner, held = app.runner(), HeldClaims()
    held.add(runner.claim("default", limit=1))
    keeper = Keeper(
        runner.store,
        held,
        node_id=runner.node_id,
        settings=runner.settings,
        sources=runner.sources,
        telemetry=runner.telemetry,
    )
    app.store.reserve_connections()

    with ExitStack() as taken, locked(app, table):
        for _ in range(app.engine.pool.size() - 1):
            taken.enter_context(app.engine.connect())
        for _ in range(SHARED):
            taken.enter_context(app.store.transaction())
        heartbeat = threading.Thread(target=keeper.run_once)
        heartbeat.start()
        heartbeat.join(20)
        assert not heartbeat.is_alive()

    assert f"locked '{table}'" in caplog.text


@pytest.mark.parametrize(("kind", "action", "name"), KINDS)
@pytest.mark.parametrize("raises", [False, True])
def test_an_outcome_waits_for_the_table_and_is_recorded_once(
    app, kind, action, name, raises
):
    with paused_bodies(name) as (begun, gate, runs), app.running():
        wait = getattr(parcels.script, name)
        setattr(
            parcels.script,
            name,
            lambda *given: (wait(*given), 1 / (0 if raises else 1)),
        )
        (key,) = enqueue(app, kind, action)
        assert begun.wait(60)
        with locked(app, "statejobs_jobs"):
            gate.set()
            pause(1.5)
        wanted = JobState.FAILED if raises else JobState.COMPLETED
        eventually(lambda: job_of(app, kind, key).state is wanted)

    job = job_of(app, kind, key)
    assert (len(runs), job.attempt, job.crashes, job.returned) == (1, 1, 0, 0)


def test_an_async_outcome_waits_for_the_table_too(app):
    (key,) = enqueue(app, Message, "get")
    claim_made = threading.Event()

    async def lock_soon(_message, _ctx):
        claim_made.set()

    parcels.script.fetch = lock_soon
    with app.running():
        assert claim_made.wait(60)
        with locked(app, "statejobs_jobs"):
            pause(1)
        eventually(lambda: is_completed(app, Message, key))
    assert job_of(app, Message, key).attempt == 1


ACTS = {
    "look": lambda app, now: peek_queues(app.store, ["default"], ["parcel.send"]),
    "staging": lambda app, now: stage_due(app.store, ["default"], ["parcel.send"], now),
    "due": lambda app, now: find_due(
        app.store, ["default"], ["parcel.send"], now, limit=1
    ),
    "listed": lambda app, now: stage_listed(app.store, [1]),
    "claim": lambda app, now: app.runner().claim("default", limit=1),
    "renewal": lambda app, now: renew_leases(app.store, [1], node="n", until=now),
    "owned": lambda app, now: find_owned(app.store, "n", now),
    "held": lambda app, now: count_held(app.store, "n"),
    "expired": lambda app, now: find_expired(
        app.store, ["parcel.send"], now, lease=LEASE
    ),
    "rescue": lambda app, now: app.runner().rescue(),
    "prune": lambda app, now: app._pruner.run_once(),
    "beat": lambda app, now: beat_node(app.store, "n", now),
    "node": lambda app, now: register_node(
        app.store,
        {
            "id": "n",
            "host": "h",
            "pid": 1,
            "queues": "{}",
            "version": "1",
            "started_at": now,
            "beat_at": now,
        },
    ),
    "leaving": lambda app, now: remove_node(app.store, "n"),
    "forgetting": lambda app, now: forget_silent_nodes(app.store, now),
}
OF_NODES = {"beat", "node", "leaving", "forgetting"}


@pytest.mark.parametrize("act", ACTS)
def test_nothing_of_a_worker_waits_for_a_table_without_an_end(app, act):
    now = app.sources.clock.now()
    table = "statejobs_nodes" if act in OF_NODES else "statejobs_jobs"

    with locked(app, table), pytest.raises(DBAPIError) as met:
        ACTS[act](app, now)

    assert fault_of(met.value) is Fault.LOCKED


def test_a_table_of_the_user_that_is_locked_holds_up_no_rescue_of_others(app, caplog):
    (parcel,) = send(app)
    (letter,) = enqueue(app, Letter, "press")
    app.runner().claim("default", limit=5)
    pause(LEASE.total_seconds() * 1.2)

    with locked(app, "parcels"):
        app.runner().rescue()

    assert job_of(app, Letter, letter).crashes == 1
    assert job_of(app, Parcel, parcel).crashes == 0
    assert "1 expired jobs cannot be rescued for now" in caplog.text

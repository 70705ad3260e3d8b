"""What a worker does beside jobs is a list: each entry can be run by hand, and stopped at once."""

import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from statejobs import WorkerSettings
from statejobs.runner.services import Loop, Service
from statejobs.runner.worker import Worker
from statejobs.values.clock import Sources
from tests.support.parcels import BACKOFF, LEASE, Parcel, post_office, script, send
from tests.support.parcels import state_of as state_of_parcel
from tests.support.processes import DEADLINE, eventually
from tests.support.services import run_service

AT_ONCE = 2.0
"""Seconds in which all loops end on a machine that is busy with others."""
SINGLY = WorkerSettings(lease=LEASE, finish_batch=1)


class Here:
    """Runs the bodies of a worker in the thread that claims."""

    def submit(self, task):
        task()

    def stop(self):
        """Nothing waits here."""


@pytest.fixture
def by_hand(database_url, clock):
    """An app, and a worker that has no thread: a test runs its services."""
    with post_office(database_url, clock=clock, settings=SINGLY) as app:
        worker = Worker(app.runner(), {"default": 2}, settings=SINGLY, threads=Here())
        worker.register()
        yield app, worker


def test_the_services_of_a_worker_have_names(app):
    names = [service.name for service in app.worker().services]

    own = ["claim", "heartbeat", "strays", "lease", "rescue", "overdue", "forget"]
    watched = ["watch"] if app.store.dialect == "postgresql" else []
    assert names == [*own, *watched, "prune"]


def test_a_worker_is_stepped_by_hand(by_hand, clock):
    app, worker = by_hand
    failing = [ValueError("at first")]

    def deliver(_parcel, _ctx):
        if failing:
            raise failing.pop()

    script.send = deliver
    (parcel,) = send(app)

    run_service(worker, "claim")
    run_service(worker, "claim")
    before = state_of_parcel(app, Parcel, parcel)
    clock.advance(2 * BACKOFF)
    run_service(worker, "heartbeat")
    due = run_service(worker, "claim")

    assert before != "sent"
    assert state_of_parcel(app, Parcel, parcel) == "sent"
    assert due == SINGLY.poll


def test_the_dead_are_rescued_by_hand(by_hand, clock):
    app, worker = by_hand
    (parcel,) = send(app)
    app.runner().claim("default", limit=1)

    run_service(worker, "claim")
    before = state_of_parcel(app, Parcel, parcel)
    for _ in range(4):
        clock.advance(LEASE / 3)
        run_service(worker, "heartbeat")
    run_service(worker, "rescue")
    clock.advance(2 * BACKOFF)
    run_service(worker, "heartbeat")
    run_service(worker, "claim")

    assert before == "sending"
    assert state_of_parcel(app, Parcel, parcel) == "sent"


def test_every_service_stops_at_once_whatever_its_interval(app):
    worker = app.worker()
    worker.register()
    years = timedelta(days=3650)
    loops = [
        Loop(replace(service, every=years), Sources()) for service in worker.services
    ]

    for loop in loops:
        loop.start()
    began = time.monotonic()
    for loop in loops:
        loop.stop()

    assert time.monotonic() - began < AT_ONCE
    assert not any(loop.is_running for loop in loops)


@pytest.fixture
def live(database_url):
    """An app on the clock of this machine."""
    with post_office(database_url, sources=Sources()) as app:
        yield app


def test_a_service_more_runs_fails_goes_on_and_stops_with_the_worker(live, caplog):
    rounds, is_enough = [], threading.Event()

    def count():
        rounds.append(threading.current_thread())
        if len(rounds) == 5:
            is_enough.set()
        if len(rounds) in {2, 3}:
            raise ValueError("a bug of ours")

    live._workers.services.append(Service("census", count, timedelta(seconds=0.01)))
    with live.running():
        (parcel,) = send(live)
        assert is_enough.wait(DEADLINE)
        eventually(lambda: state_of_parcel(live, Parcel, parcel) == "sent")

    (thread,) = set(rounds)
    told = [line for line in caplog.messages if "census" in line]
    assert thread.name == "statejobs-census"
    assert not thread.is_alive()
    assert told == ["statejobs-census failed", "statejobs-census goes well again"]


def test_a_service_that_is_added_with_years_between_stops_with_the_worker(live):
    ran = []
    years = timedelta(days=3650)
    live._workers.services.append(Service("census", lambda: ran.append(1), years))

    with live.running() as worker:
        began = time.monotonic()
    seconds = time.monotonic() - began

    assert not ran
    assert worker.services[-1].name == "census"
    assert seconds < DEADLINE

"""Many take the same ticks at once; each instant has one, whoever dies or is late."""

import threading
from datetime import timedelta

from statejobs.store.tables import schedules, ticks
from tests.support.bells import jobs_of, rows_of, tower
from tests.support.clock import NOON
from tests.support.processes import DEADLINE
from tests.support.services import run_service

TEN = timedelta(minutes=10)
THREADS = 6


def test_threads_that_take_a_tick_at_once_make_one_job(database_url, clock):
    with tower(database_url, clock=clock) as app:
        workers = [app.worker() for _ in range(THREADS)]
        for worker in workers:
            run_service(worker, "ticks")
        for _ in range(12):
            clock.advance(TEN)
            at_once(lambda worker: run_service(worker, "ticks"), workers)
        app.drain()

        assert [t.at for t in rows_of(app, ticks, "bell.ring")] == [
            NOON + n * TEN for n in range(1, 13)
        ]
        strikes = [job.tick_at for job in jobs_of(app, "bell.strike")]
        assert strikes == [NOON + n * timedelta(hours=1) for n in (1, 2)]


def test_nodes_that_start_at_once_write_each_schedule_once(database_url, clock):
    with tower(database_url, clock=clock) as app:
        workers = [app.worker() for _ in range(THREADS)]

        at_once(lambda worker: run_service(worker, "ticks"), workers)

        assert len(rows_of(app, schedules)) == 3


def at_once(act, workers):
    """Call *act* with each worker, all at the same time; raise what one of them raised."""
    errors = []
    gate = threading.Barrier(len(workers))

    def run(worker):
        gate.wait(DEADLINE)
        try:
            act(worker)
        except Exception as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert errors == []

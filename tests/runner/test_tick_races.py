"""Many take the same ticks at once; each instant has one, whoever dies or is late."""

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from statejobs import (
    Domain,
    JobContext,
    Sources,
    StateJobs,
    SystemClock,
    scheduled_action,
)
from statejobs.store.nodes import ask_time
from statejobs.store.tables import schedules, ticks
from statejobs.values.cron import Cron
from tests.support.bells import jobs_of, rows_of, ticks_of, tower, write_schedule
from tests.support.clock import NOON, ManualClock
from tests.support.parcels import close_app
from tests.support.processes import DEADLINE, ROOT, eventually
from tests.support.services import run_service
from tests.support.tick_node import make_app

MINUTE = timedelta(minutes=1)
TEN = timedelta(minutes=10)
SPRING = datetime(2030, 3, 15, 12, tzinfo=UTC)
"""Two weeks before Prague sets its clocks forward."""
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


@pytest.mark.timeout(240)
def test_nodes_that_are_killed_and_come_back_tick_each_minute_once(
    database_url, tmp_path
):
    since = time.time()
    log = tmp_path / "nodes.log"
    with make_app(database_url, since) as app, ExitStack() as running:
        app.create_all()
        nodes = [
            running.enter_context(node(database_url, since, log)) for _ in range(3)
        ]
        for round_ in range(6):
            many = (round_ + 1) * 2
            eventually(
                lambda many=many: len(ticks_of(app, "bell.ring")) >= many, log.read_text
            )
            killed = nodes.pop(0)
            killed.kill()
            nodes.append(running.enter_context(node(database_url, since, log)))
        running.close()

        made = Counter(job.tick_at for job in jobs_of(app, "bell.ring"))
        found = ticks_of(app, "bell.ring")
        first, last = found[0][0], found[-1][0]
        minutes = list(ring_cron().between(first - MINUTE, last))
        assert found == [(at, 1, 0) for at in minutes]
        assert made == dict.fromkeys(minutes, 1)


def ring_cron():
    return Cron.parse("* * * * *", where="cron")


@contextmanager
def node(url, since, log):
    """A worker in a process of its own, ended by its process id."""
    command = [sys.executable, "-m", "tests.support.tick_node", url, str(since)]
    with (
        log.open("ab") as stream,
        subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            process.wait(DEADLINE)


@pytest.mark.timeout(240)
def test_thirty_days_have_the_ticks_of_the_calendar_whoever_is_late_or_early(
    database_url, seed
):
    chance = random.Random(seed)
    expression, zone = "7 */3 * * *", "Europe/Prague"
    domain = Domain("tower", tasks=[often(expression, zone)])
    clocks = [ManualClock(SPRING + timedelta(minutes=off)) for off in (-10, 0, 10)]
    with ExitStack() as open_apps:
        apps = [
            open_apps.enter_context(
                tower(database_url, clock=clock, domain=domain, prefix=str(number))
            )
            for number, clock in enumerate(clocks)
        ]
        workers = [app.worker() for app in apps]
        for worker in workers:
            run_service(worker, "ticks")
        first = rows_of(apps[0], schedules)[0].next_at
        while clocks[0].now() < SPRING + timedelta(days=30):
            step = timedelta(minutes=chance.choice([7, 60, 200, 600]))
            for clock in clocks:
                clock.advance(step)
            for worker in chance.sample(workers, chance.randint(0, 3)):
                run_service(worker, "ticks")
        for worker in workers:
            run_service(worker, "ticks")

        until = clocks[2].now()
        instants = list(
            Cron.parse(expression, zone, where="cron").between(first - MINUTE, until)
        )
        found = ticks_of(apps[0], "bell.often")
        made = Counter(job.tick_at for job in jobs_of(apps[0], "bell.often"))
        assert found == [(at, 1, 0) for at in instants]
        assert made == dict.fromkeys(instants, 1)


def often(expression, zone):
    @scheduled_action(
        "bell.often", cron=expression, timezone=zone, overlap="queue", catch_up="all"
    )
    def ring(ctx: JobContext) -> None:
        """Nothing."""

    return ring


@pytest.mark.postgres
@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_node_whose_clock_is_off_ticks_by_that_of_the_database(postgres_url, minutes):
    class WrongClock(SystemClock):
        def now(self):
            return super().now() + timedelta(minutes=minutes)

    app = StateJobs(
        postgres_url,
        domains=[Domain("tower", tasks=[often("@yearly", "UTC")])],
        sources=Sources(clock=WrongClock()),
    )
    try:
        app.create_all()
        worker = app.worker()
        run_service(worker, "ticks")
        now = ask_time(app.store)
        write_schedule(app, "bell.often", next_at=now + timedelta(minutes=5))
        run_service(worker, "ticks")
        early = ticks_of(app, "bell.often")
        write_schedule(app, "bell.often", next_at=now)
        run_service(worker, "ticks")
        (tick,) = rows_of(app, ticks, "bell.often")
    finally:
        close_app(app)

    assert early == []
    assert abs(tick.began_at - now) < timedelta(minutes=1)


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

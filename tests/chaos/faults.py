"""The faults, one function each."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

import psycopg
from sqlalchemy import Engine, func, insert, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from statejobs import StateJobs
from statejobs.domain.job import JobState
from statejobs.store.tables import jobs, nodes
from tests.chaos.app import FOREIGN, Does
from tests.chaos.disk import Disk
from tests.chaos.fleet import Fleet, now, wait_until
from tests.chaos.plan import Fault, Plan
from tests.chaos.proxy import Proxy
from tests.chaos.standby import Standby
from tests.chaos.submitter import commit_surely, new_id
from tests.support.postgres import PostgresServer

_BACKLOG = 1000  # jobs
_SILENCE = (0.5, 3.0)  # seconds
_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


@dataclass
class Field:
    """Everything that can be hurt, and what that showed."""

    app: StateJobs
    """Directly at the database, as `engine`."""
    plan: Plan
    fleet: Fleet
    engine: Engine
    """Directly to the database."""
    rng: Random
    server: PostgresServer | None = None
    standby: Standby | None = None
    proxy: Proxy | None = None
    disk: Disk | None = None
    done: Counter[Fault] = field(default_factory=Counter)
    paused: list[threading.Timer] = field(default_factory=list)
    """Who wakes whom: nothing that this process waits for may keep it from that."""
    illegal: list[str] = field(default_factory=list)
    away: list[tuple[datetime, datetime]] = field(default_factory=list)
    """From when to when the database was away for long."""
    resume_seconds: list[float] = field(default_factory=list)
    """From the return of the database to the next finished job."""

    def inflict(self, fault: Fault) -> None:
        """Do it, and count it."""
        _FAULTS[fault](self)
        self.done[fault] += 1

    def wait(self, seconds: float) -> None:
        """Let time pass; the fallen are replaced meanwhile."""
        until = time.monotonic() + seconds
        while True:
            self.tend()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.2))  # noqa: TID251

    def tend(self) -> None:
        """Replace the fallen, and note who serves."""
        self.fleet.tend()
        self.look_who_serves()

    def look_who_serves(self) -> None:
        """Note the processes that have registered; while the database is away, nothing is new."""
        with suppress(SQLAlchemyError), self.engine.connect() as connection:
            self.fleet.registered |= set(connection.scalars(select(nodes.c.pid)))

    def wake_all(self) -> None:
        """Wait until nobody is paused any more."""
        while any(timer.is_alive() for timer in self.paused):
            self.wait(0.2)


def _kill(field: Field) -> None:
    _until(field, lambda: field.fleet.kill(field.rng))


def _pause(field: Field) -> None:
    post = _until(field, lambda: field.fleet.pause(field.rng))
    timer = threading.Timer(field.plan.pause, field.fleet.resume, [post])
    timer.daemon = True
    timer.start()
    field.paused.append(timer)


def _storm(field: Field) -> None:
    _until(field, lambda: field.fleet.storm(field.rng))


def _restart(field: Field) -> None:
    field.server.restart("immediate")


def _outage(field: Field) -> None:
    def be_away() -> None:
        field.server.crash()
        time.sleep(field.plan.outage)  # noqa: TID251 - nobody is replaced meanwhile
        field.server.revive()

    _outlive(field, be_away)


def _fail_over(field: Field) -> None:
    def promote() -> None:
        field.server.crash()
        field.standby.promote()
        field.server = field.standby

    _outlive(field, promote)


def _outlive(field: Field, be_away: Callable[[], None]) -> None:
    """Who serves must outlive it, say little, and work soon after."""
    _until(field, lambda: len(field.fleet.all_serving()) > 1)
    before, said = set(field.fleet.all_serving()), len(field.fleet.logs())
    gone_at = now()
    be_away()
    field.away.append((gone_at, now()))
    back, returned_at = time.monotonic(), now()
    if not wait_until(lambda: _has_finished_after(field, returned_at), within=60):
        field.illegal.append("no job finished within 60 s after the database was back")
    field.resume_seconds.append(time.monotonic() - back)
    gone = before - set(field.fleet.all_serving())
    field.illegal += [f"worker process {pid} ended in an outage" for pid in gone]
    lines = field.fleet.logs()[said:].count("the database is away")
    most = len(before) * (2 + int(field.plan.outage / 10))
    if lines > most:
        field.illegal.append(f"{lines} lines say that the database is away, not {most}")


def _disconnect(field: Field) -> None:
    url = make_url(field.server.url()).set(drivername="postgresql").render_as_string()
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(_SESSIONS, [field.engine.url.database]).fetchall()
        sessions = sorted(pid for (pid,) in found)
        for pid in field.rng.sample(sessions, len(sessions) // 2):
            connection.execute("SELECT pg_terminate_backend(%s)", [pid])


def _cut(field: Field) -> None:
    field.proxy.cut_commits(field.rng.randint(1, 4))


def _fall_silent(field: Field) -> None:
    seconds = field.rng.uniform(*_SILENCE)
    field.proxy.fall_silent(seconds, lose=field.rng.random() < 0.5)
    field.wait(seconds)


def _half_open(field: Field) -> None:
    field.proxy.swallow()


def _slow_down(field: Field) -> None:
    field.proxy.slow_down(field.plan.gap * 2, delay=field.rng.uniform(0.01, 0.1))


def _fill_disk(field: Field) -> None:
    struck = field.fleet.all_serving()
    field.disk.fill(struck)
    field.wait(field.rng.uniform(1.0, 2.0) * field.plan.lease / 2)
    field.disk.free(struck)


def _skew(field: Field) -> None:
    _until(field, lambda: field.fleet.skew(field.rng))


def _submit_refused(field: Field) -> None:
    id_ = new_id(field.rng)
    with (field.fleet.directory / "acks-refused").open("a") as acks:
        answer = commit_surely(field.app, {id_: Does.REFUSED}, acks)
        acks.write(f"{answer} {id_}\n")


def _flood(field: Field) -> None:
    """Put a backlog of another app before ours, half of it to be staged."""
    states = [JobState.QUEUED.value, JobState.SCHEDULED.value]
    long_ago = now() - timedelta(days=1)
    rows = [
        {
            "key": FOREIGN + states[number % 2], "queue": "errands", "priority": 0,
            "state": states[number % 2], "run_at": long_ago, "args": "{}", "tags": "{}",
            "idempotency_key": new_id(field.rng), "max_attempts": 1, "enqueued_at": long_ago,
        }
        for number in range(_BACKLOG)
    ]  # fmt: skip

    def insert_all() -> bool:
        with suppress(SQLAlchemyError), field.engine.begin() as connection:
            connection.execute(insert(jobs), rows)
            return True
        return False

    _until(field, insert_all)


def _has_finished_after(field: Field, at) -> bool:
    finished = select(func.count()).where(
        jobs.c.state == JobState.COMPLETED.value, jobs.c.finished_at > at
    )
    try:
        with field.engine.connect() as connection:
            return bool(connection.scalar(finished))
    except SQLAlchemyError:
        return False


def _until(field: Field, holds):
    """Wait for something that can be hurt, and return it."""
    found = None

    def try_it() -> bool:
        nonlocal found
        found = holds()
        return bool(found)

    if not wait_until(try_it, within=60, tend=field.tend):
        raise TimeoutError("for a minute no worker was there to hurt: see the workers' logs")
    return found


_FAULTS: dict[Fault, Callable[[Field], None]] = {
    Fault.KILL: _kill,
    Fault.PAUSE: _pause,
    Fault.STORM: _storm,
    Fault.RESTART: _restart,
    Fault.OUTAGE: _outage,
    Fault.FAILOVER: _fail_over,
    Fault.DISCONNECT: _disconnect,
    Fault.CUT: _cut,
    Fault.SILENCE: _fall_silent,
    Fault.SLOW: _slow_down,
    Fault.HALF_OPEN: _half_open,
    Fault.FULL_DISK: _fill_disk,
    Fault.SKEW: _skew,
    Fault.REFUSAL: _submit_refused,
    Fault.FOREIGN: _flood,
}

"""The faults, one function each; those with a story of their own have a file."""

import threading
import time
from collections.abc import Callable

import psycopg
from sqlalchemy import make_url

from tests.chaos.field import Field
from tests.chaos.fleet import now, wait_until
from tests.chaos.freeze import freeze
from tests.chaos.limits import limit_connections
from tests.chaos.plan import Fault
from tests.chaos.rows import flood, submit_refused, submit_rivals, submit_unreadable

_SILENCE = (0.5, 3.0)  # seconds
_SESSIONS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
)


def inflict(field: Field, fault: Fault) -> None:
    """Do it, and count it."""
    _FAULTS[fault](field)
    field.done[fault] += 1


def _kill(field: Field) -> None:
    field.until(lambda: field.fleet.kill(field.rng))


def _pause(field: Field) -> None:
    post = field.until(lambda: field.fleet.pause(field.rng))
    timer = threading.Timer(field.plan.pause, field.fleet.resume, [post])
    timer.daemon = True
    timer.start()
    field.paused.append(timer)


def _storm(field: Field) -> None:
    field.until(lambda: field.fleet.storm(field.rng))


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
    field.until(lambda: len(field.fleet.all_serving()) > 1)
    before, said = set(field.fleet.all_serving()), len(field.fleet.logs())
    gone_at = now()
    be_away()
    field.away.append((gone_at, now()))
    back, returned_at = time.monotonic(), now()
    if not wait_until(lambda: field.has_finished_after(returned_at), within=60):
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
    full_at = now()
    field.wait(field.rng.uniform(1.0, 2.0) * field.plan.lease / 2)
    field.disk.free(struck)
    field.away.append((full_at, now()))


def _skew(field: Field) -> None:
    field.until(lambda: field.fleet.skew(field.rng))


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
    Fault.REFUSAL: submit_refused,
    Fault.FOREIGN: flood,
    Fault.TAKEN: submit_rivals,
    Fault.UNREADABLE: submit_unreadable,
    Fault.FREEZE: freeze,
    Fault.LIMIT: limit_connections,
}

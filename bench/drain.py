"""Drains a queue through worker processes, and reads from the database how long that took."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
from sqlalchemy import cast, func, select

from bench.databases import Database
from bench.meter import Meter
from bench.seed import jobs, submit_orders
from bench.systems import System
from statejobs import metadata

transitions = metadata.tables["statejobs_transitions"]
_LONGEST = 120.0  # seconds after which a drain is given up


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run."""

    rate: float
    """Finished jobs per second, from the first claim to the last finish."""
    worker_ms: float
    """CPU of the worker processes for each job."""
    server_ms: float | None = None
    wal_bytes: float | None = None
    other_cores: float = 0.0
    """How many cores programs that are not measured kept busy meanwhile."""


class UnfinishedError(Exception):
    """A system did not do the work, or not all of it."""


def drain(
    system: System, database: Database, processes: Sequence[psutil.Process], count: int
) -> Sample:
    """Submit *count* orders, wait until they are completed, check them, and return the rate."""
    meter = Meter(database, processes)
    before = submit_orders(database, system.resource, count, before_commit=meter.start)
    _wait_until_drained(system, database, before)
    meter.stop()
    return Sample(
        rate=count / _check(system, database, before, count),
        worker_ms=meter.worker_seconds / count * 1000,
        server_ms=None if meter.server_seconds is None else meter.server_seconds / count * 1000,
        wal_bytes=None if meter.wal_bytes is None else meter.wal_bytes / count,
        other_cores=meter.other_cores,
    )


def _wait_until_drained(system: System, database: Database, before: int) -> None:
    pause = threading.Event()
    open_jobs = select(jobs.c.id).where(jobs.c.id > before, jobs.c.state != "completed").limit(1)
    give_up_at = time.monotonic() + _LONGEST
    with database.app.engine.connect() as connection:
        while connection.execute(open_jobs).first() is not None:
            connection.rollback()
            pause.wait(0.05)
            if time.monotonic() > give_up_at:
                raise UnfinishedError(f"{system.name}: not drained after {_LONGEST:g} s")


def _check(system: System, database: Database, before: int, count: int) -> float:
    """Return the seconds from first claim to last finish, having seen that all rows are there."""
    table = system.resource.__table__  # type: ignore[attr-defined]
    is_record = jobs.c.record_id == cast(table.c.id, jobs.c.record_id.type)
    mine = (jobs.c.id > before, jobs.c.state == "completed", jobs.c.attempt == 1)
    with database.app.engine.connect() as connection:
        began, ended, finished = connection.execute(
            select(func.min(jobs.c.started_at), func.max(jobs.c.finished_at), func.count())
            .where(*mine)
        ).one()  # fmt: skip
        landed = connection.execute(
            select(func.count()).select_from(table.join(jobs, is_record))
            .where(*mine, table.c.state == "completed", table.c.charged_at.is_not(None))
        ).scalar_one()  # fmt: skip
        told = connection.execute(
            select(func.count()).select_from(transitions).where(transitions.c.job_id > before)
        ).scalar_one()
    expected = (count, count, 2 * count if system.writes_history else 0)
    if (finished, landed, told) != expected:
        raise UnfinishedError(
            f"{system.name}: jobs, records and rows of history are {finished, landed, told}, "
            f"not {expected}"
        )
    return (ended - began).total_seconds()

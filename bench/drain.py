"""Drains a queue through worker processes, and reads from the database how long that took."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import psutil
from sqlalchemy import Connection, cast, func, select

from bench.databases import Database
from bench.meter import Meter, Sample
from bench.seed import enqueue_tasks, jobs, submit_orders, transitions
from bench.systems import System

_LONGEST = 120.0  # seconds after which a drain is given up


class UnfinishedError(Exception):
    """A system did not do the work, or not all of it."""


def drain(
    system: System, database: Database, processes: Sequence[psutil.Process], count: int
) -> Sample:
    """Submit *count* orders, wait until they are completed, check them, and return the rate."""
    meter = Meter(database, processes)
    if system.resource is None:
        before = enqueue_tasks(database, count, before_commit=meter.start)
    else:
        before = submit_orders(
            database, system.resource, count, before_commit=meter.start
        )
    _wait_until_drained(system, database, before)
    meter.stop()
    return meter.sample(count, _check(system, database, before, count))


def _wait_until_drained(system: System, database: Database, before: int) -> None:
    pause = threading.Event()
    open_jobs = (
        select(jobs.c.id)
        .where(jobs.c.id > before, jobs.c.state != "completed")
        .limit(1)
    )
    give_up_at = time.monotonic() + _LONGEST
    with database.app.engine.connect() as connection:
        while connection.execute(open_jobs).first() is not None:
            connection.rollback()
            pause.wait(0.05)
            if time.monotonic() > give_up_at:
                raise UnfinishedError(
                    f"{system.name}: not drained after {_LONGEST:g} s"
                )


def _check(system: System, database: Database, before: int, count: int) -> float:
    """Return the seconds from first claim to last finish, having seen that all rows are there."""
    mine = (jobs.c.id > before, jobs.c.state == "completed", jobs.c.attempt == 1)
    with database.app.engine.connect() as connection:
        began, ended, finished = connection.execute(
            select(
                func.min(jobs.c.started_at), func.max(jobs.c.finished_at), func.count()
            ).where(*mine)
        ).one()
        landed = _count_landed(connection, system.resource, mine)
        told = connection.execute(
            select(func.count())
            .select_from(transitions)
            .where(transitions.c.job_id > before)
        ).scalar_one()
    records = 0 if system.resource is None else count
    expected = (count, records, 2 * count if system.writes_history else 0)
    if (finished, landed, told) != expected:
        raise UnfinishedError(
            f"{system.name}: jobs, records and rows of history are {finished, landed, told}, "
            f"not {expected}"
        )
    return float((ended - began).total_seconds())


def _count_landed(connection: Connection, resource: Any, mine: Sequence[Any]) -> int:
    if resource is None:
        return 0
    table = resource.__table__
    ids = select(cast(jobs.c.record_id, table.c.id.type)).where(*mine)
    landed = (
        select(func.count())
        .select_from(table)
        .where(
            table.c.id.in_(ids),
            table.c.state == "completed",
            table.c.charged_at.is_not(None),
        )
    )
    return int(connection.execute(landed).scalar_one())

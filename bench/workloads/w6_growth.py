"""W6: the drain of W4 in a table that holds much else, beside the same in an empty one."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import cast, insert, literal, select, text

from bench.databases import Database
from bench.drain import drain
from bench.meter import Sample
from bench.plan import Plan
from bench.rows import Row, rows_of_race
from bench.seed import jobs, numbers, random_id
from bench.systems import STATEJOBS, running
from statejobs import utcnow

_EMPTY, _FULL = "statejobs, empty", "statejobs, full"


def run(plan: Plan) -> list[Row]:
    """Measure one worker process."""
    rows = []
    for kind in plan.durable:
        rows += rows_of_race("W6", kind, 1, _race(plan, kind), _EMPTY)
    return rows


def _race(plan: Plan, kind: str) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {_FULL: [], _EMPTY: []}
    with contextlib.ExitStack() as stack:
        entrants = {}
        for name in samples:
            database = plan.databases.fresh(kind)
            stack.callback(plan.databases.discard, database)
            if name == _FULL:
                plan.tell(f"{kind}: seeding")
                fill(database, thousands=20 if plan.quick else 1000)
            processes = stack.enter_context(running(STATEJOBS, database, 1))
            rate = drain(STATEJOBS, database, processes, 200).rate
            entrants[name] = (database, processes, int(max(rate * plan.seconds, 100)))
        for number in range(plan.runs):
            plan.tell(f"{kind}, run {number + 1} of {plan.runs}")
            for name, (database, processes, count) in entrants.items():
                samples[name].append(drain(STATEJOBS, database, processes, count))
    return samples


def fill(database: Database, *, thousands: int) -> None:
    """Seed finished jobs, a fifth as many that wait in another queue, and as many for later."""
    now = utcnow()
    with database.app.engine.begin() as connection:
        for state, queue, run_at, count in (
            ("completed", "orders", now - timedelta(days=1), thousands * 1000),
            ("queued", "later", now - timedelta(hours=1), thousands * 200),
            ("scheduled", "orders", now + timedelta(days=3650), thousands * 1000),
        ):
            _insert(connection, state, queue, run_at, count)
    with database.app.engine.connect() as connection:
        if database.is_sqlite:
            connection.exec_driver_sql("ANALYZE")
        else:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text("VACUUM ANALYZE statejobs_jobs"))


def _insert(
    connection: Any, state: str, queue: str, run_at: datetime, count: int
) -> None:
    source = numbers(count)
    record_id = literal(f"{state}-") + cast(source.c.n, jobs.c.record_id.type)
    at = literal(run_at, jobs.c.run_at.type)
    columns: dict[str, Any] = {
        "key": literal("order.charge"),
        "queue": literal(queue),
        "priority": literal(0),
        "state": literal(state),
        "run_at": at,
        "args": literal("{}"),
        "resource": literal("Order"),
        "record_id": record_id,
        "dedupe_key": literal("order.charge:") + record_id,
        "idempotency_key": random_id(connection),
        "tags": literal("[]"),
        "max_attempts": literal(5),
        "enqueued_at": at,
    }
    if state == "completed":
        columns |= {"attempt": literal(1), "started_at": at, "finished_at": at}
    rows: Sequence[Any] = list(columns.values())
    connection.execute(
        insert(jobs).from_select(list(columns), select(*rows).select_from(source))
    )

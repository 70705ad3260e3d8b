"""W5: from the commit that enqueues, to the start of the action on an idle worker elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from statistics import median, quantiles
from typing import Any

from sqlalchemy import literal_column, select

from bench.app import Order
from bench.databases import Database
from bench.drain import UnfinishedError, drain
from bench.plan import Plan
from bench.rows import Row
from bench.seed import jobs
from bench.systems import ONE_STATEMENT, SQLITE_JOB, STATEJOBS, System, running
from statejobs import utcnow

_APART = 0.025  # seconds between two events: the worker is idle again
IS_OPEN = jobs.c.state != literal_column("'completed'")  # as the partial index has it
_EVENTS = 60  # of each run


def run(plan: Plan) -> list[Row]:
    """Measure the worker of statejobs and a floor that listens in the same way."""
    rows = []
    for kind in plan.durable:
        floor = ONE_STATEMENT if kind == "postgresql" else SQLITE_JOB
        rows += _rows(kind, floor, _race(plan, kind, (STATEJOBS, floor)))
    return rows


def _race(
    plan: Plan, kind: str, systems: tuple[System, ...]
) -> dict[System, list[tuple[float, float]]]:
    taken: dict[System, list[tuple[float, float]]] = {system: [] for system in systems}
    with contextlib.ExitStack() as stack:
        databases = {}
        for system in systems:
            databases[system] = database = plan.databases.fresh(kind)
            stack.callback(plan.databases.discard, database)
            processes = stack.enter_context(running(system, database, 1))
            drain(system, database, processes, 100)
        for number in range(plan.runs):
            plan.tell(f"{kind}, run {number + 1} of {plan.runs}")
            for system, database in databases.items():
                taken[system] += _events(database, 20 if plan.quick else _EVENTS)
    return taken


def _events(database: Database, count: int) -> list[tuple[float, float]]:
    """Return for each event the milliseconds of the commit, and from its call to the action."""
    called: dict[int, tuple[Any, float]] = {}
    for _ in range(count):
        with database.app.session() as session:
            order = Order(total=1)  # type: ignore[call-arg,unused-ignore]
            session.add(order)
            order.submit()
            session.flush()
            at, began = utcnow(), time.perf_counter()
            session.commit()
            called[order.id] = at, (time.perf_counter() - began) * 1000
        _wait_until_idle(database)
    starts = _starts(database, min(called), max(called))
    return [
        (commit_ms, (starts[order_id] - at).total_seconds() * 1000)
        for order_id, (at, commit_ms) in called.items()
    ]


def _wait_until_idle(database: Database) -> None:
    pause = threading.Event()
    open_jobs = select(jobs.c.id).where(IS_OPEN).limit(1)
    with database.app.engine.connect() as connection:
        for _ in range(400):
            pause.wait(_APART)
            if connection.execute(open_jobs).first() is None:
                return
            connection.rollback()
    raise UnfinishedError("an order was not completed within 10 s")


def _starts(database: Database, first: int, last: int) -> dict[int, Any]:
    columns = Order.__table__.c
    with database.app.engine.connect() as connection:
        rows = connection.execute(
            select(columns.id, columns.charged_at).where(
                columns.id.between(first, last)
            )
        )
        return {row.id: row.charged_at for row in rows}


def _rows(
    kind: str, floor: System, taken: dict[System, list[tuple[float, float]]]
) -> list[Row]:
    p50 = {system: median(ms for _, ms in events) for system, events in taken.items()}
    return [
        Row(
            workload="W5",
            database=kind,
            system=system.name,
            ratio_to_floor=p50[floor] / p50[system],
            floor=floor.name,
            p50_ms=p50[system],
            p99_ms=quantiles([ms for _, ms in events], n=100)[98],
            figures={
                "commit p50 ms": median(commit for commit, _ in events),
                "after commit p50 ms": median(ms - commit for commit, ms in events),
            },
            runs=len(events),
        )
        for system, events in taken.items()
    ]

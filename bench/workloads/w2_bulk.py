"""W2: move 10,000 records and enqueue their jobs, in one transaction."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

import psutil
from sqlalchemy import select

from bench.app import Order, OrderState
from bench.databases import Database
from bench.floors import enqueue
from bench.meter import Meter, Sample
from bench.plan import Plan
from bench.rows import Row, rows_of_race
from bench.seed import draft_orders

Submit = Callable[[Database, Sequence[int]], None]
_BULK = "statejobs, submit.bulk"
_EACH = "statejobs, submit of each"
_FLOOR = "floor: set-based SQL"


def run(plan: Plan) -> list[Row]:
    """Measure one client."""
    submits: dict[str, Submit] = {_EACH: _each, _FLOOR: enqueue.in_bulk}
    missing = []
    if hasattr(Order.submit, "bulk"):
        submits = {_BULK: _bulk, **submits}
    else:
        missing = [_BULK]
    rows: list[Row] = []
    for kind in plan.kinds:
        rows += [
            Row(
                workload="W2",
                database=kind,
                system=name,
                skipped="transitions have no bulk() yet",
            )
            for name in missing
        ]
        rows += rows_of_race("W2", kind, 1, _race(plan, kind, submits), _FLOOR)
    return rows


def _race(plan: Plan, kind: str, submits: dict[str, Submit]) -> dict[str, list[Sample]]:
    count = 1_000 if plan.quick else 10_000
    samples: dict[str, list[Sample]] = {name: [] for name in submits}
    with contextlib.ExitStack() as stack:
        databases = {name: plan.databases.fresh(kind) for name in submits}
        for name, database in databases.items():
            stack.callback(plan.databases.discard, database)
            _submit(database, submits[name], 100)
        for number in range(plan.runs):
            plan.tell(f"{kind}, run {number + 1} of {plan.runs}")
            for name, database in databases.items():
                # one by one is slow: a tenth shows its rate
                records = count // 10 if name == _EACH else count
                samples[name].append(_submit(database, submits[name], records))
    return samples


def _submit(database: Database, submit: Submit, count: int) -> Sample:
    ids = draft_orders(database, Order, count)
    meter = Meter(database, [psutil.Process()])
    meter.start()
    began = time.perf_counter()
    submit(database, ids)
    seconds = time.perf_counter() - began
    meter.stop()
    enqueue.check(database, ids)
    return meter.sample(count, seconds)


def _bulk(database: Database, ids: Sequence[int]) -> None:
    with database.app.session() as session:
        wanted = Order.id.between(ids[0], ids[-1]) & (Order.state == OrderState.DRAFT)
        Order.submit.bulk(session, where=wanted)  # type: ignore[attr-defined,unused-ignore]
        session.commit()


def _each(database: Database, ids: Sequence[int]) -> None:
    with database.app.session() as session:
        for order in session.scalars(
            select(Order).where(Order.id.between(ids[0], ids[-1]))
        ):
            order.submit()
        session.commit()

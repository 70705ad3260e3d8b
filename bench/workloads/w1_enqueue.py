"""W1: one client moves a record and enqueues its job, a commit each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from bench.app import Order
from bench.databases import Database
from bench.floors import enqueue
from bench.meter import Meter, Sample
from bench.plan import Plan
from bench.rows import Row, rows_of_race
from bench.seed import draft_orders

STATEJOBS = "statejobs"
_WARM_UP = 50
_LEAST = 50


def run(plan: Plan) -> list[Row]:
    """Measure one client."""
    rows = []
    for kind in plan.kinds:
        floors = enqueue.SQLITE if kind != "postgresql" else enqueue.POSTGRES
        makers = {STATEJOBS: _statejobs, **floors}
        with contextlib.ExitStack() as stack:
            samples: dict[str, list[Sample]] = {name: [] for name in makers}
            clients = {}
            for name, make in makers.items():
                database = plan.databases.fresh(kind)
                stack.callback(plan.databases.discard, database)
                submit = stack.enter_context(make(database))
                rate = _enqueue(database, submit, _WARM_UP).rate
                clients[name] = (
                    database,
                    submit,
                    int(max(rate * plan.seconds, _LEAST)),
                )
            for number in range(plan.runs):
                plan.tell(f"{kind}, run {number + 1} of {plan.runs}")
                for name, (database, submit, count) in clients.items():
                    samples[name].append(_enqueue(database, submit, count))
        rows += rows_of_race("W1", kind, 1, samples, next(iter(floors)))
    return rows


def submit_one_by_one(database: Database, count: int) -> Sample:
    """Let statejobs submit *count* orders."""
    with _statejobs(database) as submit:
        return _enqueue(database, submit, count)


@contextlib.contextmanager
def _statejobs(database: Database) -> Any:
    def submit(order_id: int) -> None:
        with database.app.session() as session:
            order = session.get_one(Order, order_id)
            order.submit()
            session.commit()

    yield submit


def _enqueue(database: Database, submit: Callable[[int], None], count: int) -> Sample:
    ids: Sequence[int] = draft_orders(database, Order, count)
    meter = Meter(database, [psutil.Process()])
    meter.start()
    began = time.perf_counter()
    for order_id in ids:
        submit(order_id)
    seconds = time.perf_counter() - began
    meter.stop()
    enqueue.check(database, ids)
    return meter.sample(count, seconds)

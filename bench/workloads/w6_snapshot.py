"""W6b: how long a claim takes while somebody keeps a snapshot open, so that dead rows pile up.

Two databases take turns: one as it is migrated, one with the autovacuum settings of the server.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from statistics import median, quantiles

from sqlalchemy import text

from bench.app import QUEUE, Order
from bench.databases import Database
from bench.plan import Plan
from bench.rows import Row
from bench.seed import seed_orders
from statejobs.runner.port import Ending
from statejobs.runner.runner import Runner

_MIGRATED, _DEFAULT = "statejobs", "statejobs, autovacuum as the server has it"
_HELD = 120.0  # seconds
_PARTS = 4  # of that time, a row each
_AFTER = 30.0  # seconds without the snapshot
_BATCH = 20
_EVERY = _BATCH / 240  # seconds: 240 jobs a second on each database


def run(plan: Plan) -> list[Row]:
    """Measure on PostgreSQL; SQLite keeps no dead rows in its index."""
    return _measure(plan) if "postgresql" in plan.kinds else []


def _measure(plan: Plan) -> list[Row]:
    rows: list[Row] = []
    shorter = 0.05 if plan.quick else 1.0
    with contextlib.ExitStack() as stack:
        databases = {}
        for name in (_MIGRATED, _DEFAULT):
            databases[name] = database = plan.databases.fresh("postgresql")
            stack.callback(plan.databases.discard, database)
        _reset_autovacuum(databases[_DEFAULT])
        runners = {name: database.app.runner() for name, database in databases.items()}
        _claims(databases, runners, 5 * shorter)  # warm
        plan.tell("nobody holds a snapshot")
        rows += _rows("before", _claims(databases, runners, _AFTER * shorter))
        with contextlib.ExitStack() as held:
            for database in databases.values():
                held.enter_context(_snapshot(database))
            for part in range(_PARTS):
                seconds = _HELD * shorter / _PARTS
                plan.tell(f"a snapshot is held, part {part + 1} of {_PARTS}")
                rows += _rows(
                    f"held, until {(part + 1) * seconds:.0f} s",
                    _claims(databases, runners, seconds),
                )
        plan.tell("the snapshot is gone")
        rows += _rows("after", _claims(databases, runners, _AFTER * shorter))
    return rows


@contextlib.contextmanager
def _snapshot(database: Database) -> Iterator[None]:
    """Keep a transaction open that must see everything as it is now."""
    with database.app.engine.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute(text("SELECT count(*) FROM statejobs_jobs"))
        yield
        connection.rollback()


def _reset_autovacuum(database: Database) -> None:
    with database.app.engine.begin() as connection:
        for table, options in connection.execute(
            text(
                "SELECT relname, reloptions FROM pg_class WHERE relname LIKE 'statejobs%'"
            )
        ).all():
            names = ", ".join(option.partition("=")[0] for option in options or ())
            if names:
                connection.exec_driver_sql(f"ALTER TABLE {table} RESET ({names})")


def _claims(
    databases: dict[str, Database], runners: dict[str, Runner], seconds: float
) -> dict[str, list[float]]:
    """Submit and run orders at a steady pace; return how many milliseconds each claim took."""
    taken: dict[str, list[float]] = {name: [] for name in databases}
    pause, until = threading.Event(), time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        for name, database in databases.items():
            with database.app.engine.begin() as connection:
                seed_orders(connection, Order, _BATCH)
            taken[name].append(_claim_and_run(runners[name]))
        pause.wait(max(0.0, began + _EVERY - time.monotonic()))
    return taken


def _claim_and_run(runner: Runner) -> float:
    began = time.perf_counter()
    claims = runner.claim(QUEUE, limit=_BATCH)
    ms = (time.perf_counter() - began) * 1000
    assert len(claims) == _BATCH, (
        "every claim finds the orders that were just submitted"
    )
    results = [runner.attempts.run([claim])[0] for claim in claims]
    runner.finisher.finish_many(
        [result for result in results if isinstance(result, Ending)]
    )
    return ms


def _rows(phase: str, taken: dict[str, list[float]]) -> list[Row]:
    return [
        Row(
            workload="W6b",
            database=f"postgresql, {phase}",
            system=name,
            ratio_to_floor=median(taken[_DEFAULT]) / median(found),
            floor=_DEFAULT,
            p50_ms=median(found),
            p99_ms=quantiles(found, n=100)[98],
            runs=len(found),
        )
        for name, found in taken.items()
    ]

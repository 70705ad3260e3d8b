"""W7: what an idle worker costs."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass

import psutil
from sqlalchemy import Engine, create_engine, text

from bench.databases import Database
from bench.drain import drain
from bench.meter import cpu_seconds
from bench.plan import Plan
from bench.rows import Row
from bench.systems import ONE_STATEMENT, SQLITE_JOB, STATEJOBS, System, running

_COUNT = text(
    "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = :name"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Idler:
    system: System
    database: Database
    process: psutil.Process
    cpu: float
    queries: int | None


def run(plan: Plan) -> list[Row]:
    """Watch worker processes that have worked, and have nothing to do; all at the same time."""
    seconds = 5.0 if plan.quick else 30.0
    pause = threading.Event()
    with contextlib.ExitStack() as stack:
        started = [
            (system, *_start(stack, plan, kind, system))
            for kind in plan.kinds
            if kind != "sqlite NORMAL"  # nothing is written: the same as FULL
            for system in (
                STATEJOBS,
                ONE_STATEMENT if kind == "postgresql" else SQLITE_JOB,
            )
        ]
        pause.wait(2)
        idlers = [
            _Idler(
                system=system,
                database=database,
                process=process,
                cpu=cpu_seconds(process),
                queries=_queries(database),
            )
            for system, database, process in started
        ]
        plan.tell(f"watching idle workers for {seconds:g} s")
        pause.wait(seconds)
        return [
            Row(
                workload="W7",
                database=one.database.kind,
                system=one.system.name,
                figures=_figures(one, seconds),
            )
            for one in idlers
        ]


def _start(
    stack: contextlib.ExitStack, plan: Plan, kind: str, system: System
) -> tuple[Database, psutil.Process]:
    database = plan.databases.fresh(kind)
    stack.callback(plan.databases.discard, database)
    processes = stack.enter_context(running(system, database, 1))
    drain(system, database, processes, 500)
    return database, processes[0]


def _figures(one: _Idler, seconds: float) -> dict[str, float]:
    figures = {
        "CPU %": (cpu_seconds(one.process) - one.cpu) / seconds * 100,
        "worker MB": _megabytes(_worker(one.process)),
    }
    if not one.system.is_floor:
        figures["supervisor MB"] = _megabytes(one.process)
    if one.queries is not None:
        figures["queries/s"] = ((_queries(one.database) or 0) - one.queries) / seconds
    return figures


def _worker(process: psutil.Process) -> psutil.Process:
    """Return the process that runs jobs: below the supervisor, where there is one."""
    return next(iter(process.children()), process)


def _megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6


def _queries(database: Database) -> int | None:
    """Return how many transactions the server has ended here; an idle worker's are one query each.

    Asked from another database, and by a new session each time, so that asking does not count.
    """
    if database.is_sqlite:
        return None
    url = database.app.engine.url
    engine: Engine = create_engine(url.set(database="postgres"))
    with engine.connect() as connection:
        found = connection.execute(_COUNT, {"name": url.database}).scalar_one()
    engine.dispose()
    return int(found)

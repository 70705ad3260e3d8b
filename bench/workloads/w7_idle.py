"""W7: what an idle worker costs."""

from __future__ import annotations

import threading
import time

import psutil
from sqlalchemy import Engine, create_engine, text

from bench.databases import Database
from bench.drain import drain
from bench.meter import cpu_seconds
from bench.plan import Plan
from bench.rows import Row
from bench.systems import ONE_STATEMENT, SQLITE_JOB, STATEJOBS, System, running

_COUNT = text("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = :name")


def run(plan: Plan) -> list[Row]:
    """Watch one worker process that has worked, and has nothing to do."""
    rows = []
    for kind in plan.kinds:
        if kind == "sqlite NORMAL":  # nothing is written
            continue
        for system in (STATEJOBS, ONE_STATEMENT if kind == "postgresql" else SQLITE_JOB):
            plan.tell(f"{kind}, {system.name}")
            rows.append(
                Row(
                    workload="W7", database=kind, system=system.name,
                    figures=_watch(plan, kind, system),
                )
            )  # fmt: skip
    return rows


def _watch(plan: Plan, kind: str, system: System) -> dict[str, float]:
    seconds = 5.0 if plan.quick else 30.0
    database = plan.databases.fresh(kind)
    with running(system, database, 1) as processes:
        drain(system, database, processes, 500)
        pause = threading.Event()
        pause.wait(2)
        queries, cpu, began = _queries(database), cpu_seconds(processes[0]), time.monotonic()
        pause.wait(seconds)
        elapsed = time.monotonic() - began
        figures = {
            "CPU %": (cpu_seconds(processes[0]) - cpu) / elapsed * 100,
            "worker MB": _megabytes(_worker(processes[0])),
        }
        if not system.is_floor:
            figures["supervisor MB"] = _megabytes(processes[0])
        if queries is not None:
            figures["queries/s"] = ((_queries(database) or 0) - queries) / elapsed
    plan.databases.discard(database)
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

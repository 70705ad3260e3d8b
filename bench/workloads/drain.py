"""W3 and W4: how fast do worker processes finish what waits?"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from sqlalchemy import Engine, func, select

from bench.environment import Environment, connect
from bench.floors import tables
from bench.processes import Spec, Workers, running
from bench.records import MODELS, QUEUE, make_app
from statejobs import StateJobs
from statejobs.store.tables import jobs, transitions

WARM_UP = 200
_PATIENCE = 120  # seconds


class Backlog(Protocol):
    """The jobs of one system, in one database."""

    def fill(self, number: int) -> None:
        """Enqueue *number* jobs with one commit."""
        ...

    def is_done(self) -> bool:
        """Whether nothing waits or runs."""
        ...

    def check(self, number: int) -> None:
        """Raise unless *number* jobs and their records are completed."""
        ...

    def seconds(self, last: int) -> float:
        """Return the time from the first start to the last end of the *last* jobs."""
        ...


class StatejobsBacklog:
    """Jobs of statejobs, submitted as a user submits them."""

    def __init__(self, app: StateJobs, model: str) -> None:
        self._app, self._model = app, MODELS[model]

    def fill(self, number: int) -> None:
        """Create and submit records."""
        with self._app.session() as session:
            for _ in range(number):
                record = self._model(total=42)
                session.add(record)
                record.submit()
            session.commit()

    def is_done(self) -> bool:
        """Whether no job of the queue is queued or processing."""
        open_jobs = select(jobs.c.id).where(jobs.c.queue == QUEUE)
        with self._app.engine.connect() as connection:
            return not any(
                connection.execute(open_jobs.where(jobs.c.state == state).limit(1)).first()
                for state in ("queued", "processing")
            )

    def check(self, number: int) -> None:
        """Count jobs, records and rows of history."""
        model: Any = self._model
        completed = (
            select(func.count())
            .select_from(jobs)
            .where(jobs.c.state == "completed", jobs.c.queue == QUEUE)
        )
        moved = (
            select(func.count())
            .select_from(model.__table__)
            .where(model.__table__.c.state == "completed")
        )
        ends = (
            select(func.count()).select_from(transitions).where(transitions.c.target == "completed")
        )
        _expect(self._app.engine, completed, number)
        _expect(self._app.engine, moved, number)
        if getattr(model, "__history__", True):
            _expect(self._app.engine, ends, number)

    def seconds(self, last: int) -> float:
        """Read the times that the jobs carry."""
        newest = (
            select(jobs.c.started_at, jobs.c.finished_at)
            .where(jobs.c.queue == QUEUE)
            .order_by(jobs.c.id.desc())
            .limit(last)
            .subquery()
        )
        times = select(func.min(newest.c.started_at), func.max(newest.c.finished_at))
        with self._app.engine.connect() as connection:
            began, ended = connection.execute(times).one()
        return float((ended - began).total_seconds())


class FloorBacklog:
    """Jobs of the floors on PostgreSQL."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def fill(self, number: int) -> None:
        """Insert orders and their jobs."""
        with self._connection.transaction():
            for statement in tables.FILL:
                self._connection.execute(statement, {"number": number})

    def is_done(self) -> bool:
        """Whether no job of the queue is queued or processing."""
        return not any(
            self._value(
                f"select 1 from floor_jobs where queue = '{QUEUE}' and state = '{state}' limit 1"
            )
            for state in ("queued", "processing")
        )

    def check(self, number: int) -> None:
        """Count jobs."""
        found = self._value("select count(*) from floor_jobs where state = 'completed'")
        if found != number:
            raise AssertionError(f"{found} jobs of {number} are completed")

    def seconds(self, last: int) -> float:
        """Read the times that the jobs carry."""
        return float(
            self._value(
                "select extract(epoch from max(finished_at) - min(started_at)) from"
                f" (select * from floor_jobs order by id desc limit {last}) newest"
            )
        )

    def _value(self, query: str) -> Any:
        row = self._connection.execute(query).fetchone()
        return row and row[0]


def drain(
    backlog: Backlog, workers: Workers, number: int, *, server_cpu: Callable[[], float]
) -> dict[str, float]:
    """Warm up, then measure one backlog of *number* jobs."""
    backlog.fill(WARM_UP)
    _wait(backlog, workers)
    workers_before, server_before = workers.cpu(), server_cpu()
    backlog.fill(number)
    filled = server_cpu()
    _wait(backlog, workers)
    backlog.check(WARM_UP + number)
    return {
        "rate": number / backlog.seconds(number),
        "worker_ms": (workers.cpu() - workers_before) * 1000 / number,
        "server_ms": (server_cpu() - filled) * 1000 / number,
        "jobs": number,
    }


def drain_statejobs(
    environment: Environment, number: int, *, model: str = "Order", processes: int = 1,
    limit: int = 20,
) -> dict[str, float]:  # fmt: skip
    """Measure statejobs on an empty PostgreSQL database."""
    with environment.postgres() as url:
        app = make_app(url, model=model, limit=limit)
        try:
            app.create_all()
            spec = Spec(system="statejobs", url=url, model=model, limit=limit)
            with running(spec, processes) as workers:
                backlog = StatejobsBacklog(app, model)
                return drain(backlog, workers, number, server_cpu=environment.server_cpu)
        finally:
            app.engine.dispose()


def drain_floor(
    environment: Environment, number: int, *, floor: str, processes: int = 1
) -> dict[str, float]:
    """Measure a floor on an empty PostgreSQL database."""
    with environment.postgres() as url, connect(url) as connection:
        tables.create_tables(url)
        with running(Spec(system=floor, url=url), processes) as workers:
            backlog = FloorBacklog(connection)
            return drain(backlog, workers, number, server_cpu=environment.server_cpu)


def _expect(engine: Engine, query: Any, number: int) -> None:
    with engine.connect() as connection:
        found = connection.execute(query).scalar()
    if found != number:
        raise AssertionError(f"{found} of {number}: {query}")


def _wait(backlog: Backlog, workers: Workers) -> None:
    give_up_at = time.monotonic() + _PATIENCE
    while not backlog.is_done():
        workers.check()
        if time.monotonic() > give_up_at:
            raise TimeoutError("the jobs do not end")
        time.sleep(0.05)

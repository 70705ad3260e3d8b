"""Fills a database by SQL with what `submit` and a commit would have left there.

`tests/bench/test_seed.py` compares the rows with those of a real `submit`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    Connection,
    cast,
    func,
    insert,
    literal,
    literal_column,
    null,
    select,
)
from sqlalchemy.sql.elements import ColumnElement

from bench.app import QUEUE, TASK_QUEUE, noop
from bench.databases import Database
from statejobs import StatefulResource, metadata, utcnow
from statejobs.store.engines.channel import wake_channel

jobs = metadata.tables["statejobs_jobs"]
transitions = metadata.tables["statejobs_transitions"]


def submit_orders(
    database: Database,
    resource: type[StatefulResource],
    count: int,
    *,
    before_commit: Callable[[], object] = lambda: None,
) -> int:
    """Submit *count* new orders in one transaction; return the highest id of a job before it.

    The last one is submitted through the API, which wakes the workers.
    """
    with database.app.session() as session:
        connection = session.connection()
        before = connection.execute(
            select(func.coalesce(func.max(jobs.c.id), 0))
        ).scalar_one()
        if count > 1:
            seed_orders(connection, resource, count - 1)
        last: Any = resource(total=1)
        session.add(last)
        last.submit()
        session.flush()
        before_commit()
        session.commit()
    return int(before)


def seed_orders(
    connection: Connection, resource: Any, count: int, **overrides: ColumnElement[Any]
) -> None:
    """Insert *count* orders in `queued`, and a job for each; *overrides* are columns of the job."""
    table = resource.__table__
    now = literal(utcnow(), table.c.charged_at.type)
    first = _insert_orders(connection, table, count, state="queued", version=1)
    record_id = cast(table.c.id, jobs.c.record_id.type)
    key = resource.__machine__.triggers[0].key
    columns: dict[str, ColumnElement[Any]] = {
        "key": literal(key),
        "queue": literal(QUEUE),
        "priority": literal(0),
        "state": literal("queued"),
        "run_at": now,
        "args": literal("{}"),
        "resource": literal(resource.__name__),
        "record_id": record_id,
        "dedupe_key": literal(f"{key}:") + record_id,
        "idempotency_key": random_id(connection),
        "tags": literal("[]"),
        "max_attempts": literal(5),
        "enqueued_at": now,
        **overrides,
    }
    rows = select(*columns.values()).where(table.c.id > first).order_by(table.c.id)
    connection.execute(insert(jobs).from_select(list(columns), rows))


def enqueue_tasks(
    database: Database,
    count: int,
    *,
    before_commit: Callable[[], object] = lambda: None,
) -> int:
    """Enqueue *count* tasks that do nothing, in one transaction; return the highest id before."""
    with database.app.session() as session:
        connection = session.connection()
        before = connection.execute(
            select(func.coalesce(func.max(jobs.c.id), 0))
        ).scalar_one()
        now = literal(utcnow(), jobs.c.run_at.type)
        columns: dict[str, ColumnElement[Any]] = {
            "key": literal("bench.noop"),
            "queue": literal(TASK_QUEUE),
            "priority": literal(0),
            "state": literal("queued"),
            "run_at": now,
            "args": literal("{}"),
            "idempotency_key": random_id(connection),
            "tags": literal("[]"),
            "max_attempts": literal(5),
            "enqueued_at": now,
        }
        by_sql = count if noop is None else count - 1
        rows = select(*columns.values()).select_from(numbers(by_sql))
        connection.execute(insert(jobs).from_select(list(columns), rows))
        if noop is not None:
            # the last one through the API, which wakes the workers
            noop.enqueue(session)
        elif not database.is_sqlite:
            connection.execute(select(func.pg_notify(wake_channel(), "")))
        before_commit()
        session.commit()
    return int(before)


def draft_orders(database: Database, resource: Any, count: int) -> list[int]:
    """Insert *count* orders that wait for their `submit`; return their ids in order."""
    table = resource.__table__
    with database.app.engine.begin() as connection:
        first = _insert_orders(connection, table, count, state="draft", version=0)
        ids = select(table.c.id).where(table.c.id > first).order_by(table.c.id)
        return [row[0] for row in connection.execute(ids)]


def _insert_orders(
    connection: Connection, table: Any, count: int, *, state: str, version: int
) -> int:
    first = connection.execute(
        select(func.coalesce(func.max(table.c.id), 0))
    ).scalar_one()
    now = literal(utcnow(), table.c.charged_at.type)
    connection.execute(
        insert(table).from_select(
            ["total", "charged_at", "state", "state_version", "state_changed_at"],
            select(
                literal(1), null(), literal_column(f"'{state}'"), literal(version), now
            ).select_from(numbers(count)),
        )
    )
    return int(first)


def numbers(count: int) -> Any:
    """Return a table expression with the rows 1 to *count* in column `n`."""
    counted = select(literal(1).label("n")).cte("numbers", recursive=True)
    return counted.union_all(select(counted.c.n + 1).where(counted.c.n < count))


def random_id(connection: Connection) -> ColumnElement[str]:
    """Return SQL for 32 random hexadecimal digits."""
    if connection.dialect.name == "sqlite":
        return func.lower(func.hex(func.randomblob(16)))
    return func.replace(
        cast(func.gen_random_uuid(), jobs.c.idempotency_key.type), "-", ""
    )

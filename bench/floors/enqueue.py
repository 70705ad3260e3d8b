"""Hand-written enqueues: move the record by compare-and-set, write its history, insert the job."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
from sqlalchemy import bindparam, func, insert, select, text
from sqlalchemy.orm import Session

from bench.app import Order as StateOrder
from bench.databases import Database
from bench.drain import UnfinishedError
from bench.floors.one_statement import Order
from bench.seed import jobs, transitions
from statejobs import utcnow

Submit = Callable[[int], None]

MOVE = """
UPDATE orders SET state = 'queued', state_version = state_version + 1, state_changed_at = {now}
WHERE id = {id} AND state = 'draft' RETURNING state_version
"""
HISTORY = """
INSERT INTO statejobs_transitions (resource, record_id, name, source, target, version, duration, at)
VALUES ('Order', {text_id}, 'submit', 'draft', 'queued', {version}, 0, {now})
"""
JOB = """
INSERT INTO statejobs_jobs
    (key, queue, priority, state, run_at, args, resource, record_id, dedupe_key, idempotency_key,
     tags, max_attempts, enqueued_at)
VALUES ('order.charge', 'orders', 0, 'queued', {now}, '{{}}', 'Order', {text_id},
    'order.charge:' || {text_id}, {random}, '[]', 5, {now})
"""
NOTIFY = "SELECT pg_notify('statejobs_public', '')"
_NAMES = ("id", "text_id", "version", "now", "random")


@contextlib.contextmanager
def with_psycopg(database: Database) -> Iterator[Submit]:
    """Send three statements and a notification in one transaction."""
    names = {name: f"%({name})s" for name in _NAMES} | {"text_id": "%(text_id)s::text"}
    move, history, job = (
        statement.format(**names) for statement in (MOVE, HISTORY, JOB)
    )
    with psycopg.connect(
        database.url.replace("+psycopg", ""), autocommit=True
    ) as connection:

        def submit(order_id: int) -> None:
            values = {
                "id": order_id,
                "text_id": str(order_id),
                "now": utcnow(),
                "version": 1,
                "random": uuid.uuid4().hex,
            }
            with connection.transaction():
                if connection.execute(move, values).fetchone() is None:
                    raise psycopg.Rollback
                connection.execute(history, values)
                connection.execute(job, values)
                connection.execute(NOTIFY)

        yield submit


@contextlib.contextmanager
def with_orm(database: Database) -> Iterator[Submit]:
    """Load and flush the record through an ORM session; insert job and history as Core rows."""
    engine = database.app.engine

    def submit(order_id: int) -> None:
        now = utcnow()
        with Session(engine) as session:
            order = session.get_one(Order, order_id)
            order.state, order.state_version, order.state_changed_at = "queued", 1, now
            session.flush()
            session.execute(insert(transitions), _history(order_id, now))
            session.execute(insert(jobs), _job(order_id, now))
            session.commit()

    yield submit


@contextlib.contextmanager
def with_sqlite3(database: Database) -> Iterator[Submit]:
    """Send three statements of the standard library's sqlite3 in one transaction."""
    names = {name: f":{name}" for name in _NAMES}
    move, history, job = (
        statement.format(**names) for statement in (MOVE, HISTORY, JOB)
    )
    connection = sqlite3.connect(
        database.url.removeprefix("sqlite:///"), isolation_level=None
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {database.kind.rpartition(' ')[2]}")

    def submit(order_id: int) -> None:
        values = {
            "id": order_id,
            "text_id": str(order_id),
            "version": 1,
            "random": uuid.uuid4().hex,
            "now": utcnow().replace(tzinfo=None).isoformat(" ", "microseconds"),
        }
        connection.execute("BEGIN IMMEDIATE")
        for statement in (move, history, job):
            connection.execute(statement, values)
        connection.execute("COMMIT")

    yield submit
    connection.close()


POSTGRES = {"floor: psycopg": with_psycopg, "floor: ORM session": with_orm}
SQLITE = {"floor: sqlite3": with_sqlite3}


def check(database: Database, ids: Sequence[int]) -> None:
    """Raise unless each order was moved, told of, and has a job."""
    order = StateOrder.__table__
    numbers = [str(order_id) for order_id in ids]
    with database.app.engine.connect() as connection:
        moved = connection.execute(
            select(func.count())
            .select_from(order)
            .where(order.c.id.between(ids[0], ids[-1]), order.c.state == "queued")
        ).scalar_one()
        rows = [
            connection.execute(
                select(func.count())
                .select_from(table)
                .where(table.c.record_id.in_(numbers))
            ).scalar_one()
            for table in (jobs, transitions)
        ]
    if [moved, *rows] != [len(ids)] * 3:
        raise UnfinishedError(
            f"records, jobs and rows of history are {moved, *rows}, not {len(ids)} each"
        )


def _history(order_id: int, now: Any) -> dict[str, Any]:
    return {
        "resource": "Order",
        "record_id": str(order_id),
        "name": "submit",
        "source": "draft",
        "target": "queued",
        "version": 1,
        "duration": 0.0,
        "at": now,
    }


def _job(order_id: int, now: Any) -> dict[str, Any]:
    return {
        "key": "order.charge",
        "queue": "orders",
        "priority": 0,
        "state": "queued",
        "run_at": now,
        "args": "{}",
        "resource": "Order",
        "record_id": str(order_id),
        "tags": "[]",
        "dedupe_key": f"order.charge:{order_id}",
        "idempotency_key": uuid.uuid4().hex,
        "max_attempts": 5,
        "enqueued_at": now,
    }


BULK_MOVE = """
UPDATE orders SET state = 'queued', state_version = state_version + 1, state_changed_at = :now
WHERE id BETWEEN :first AND :last AND state = 'draft'
"""
BULK_HISTORY = """
INSERT INTO statejobs_transitions (resource, record_id, name, source, target, version, duration, at)
SELECT 'Order', CAST(id AS TEXT), 'submit', 'draft', 'queued', state_version, 0, :now FROM orders
WHERE id BETWEEN :first AND :last AND state = 'queued'
"""
BULK_JOBS = """
INSERT INTO statejobs_jobs
    (key, queue, priority, state, run_at, args, resource, record_id, dedupe_key, idempotency_key,
     tags, max_attempts, enqueued_at)
SELECT 'order.charge', 'orders', 0, 'queued', :now, '{{}}', 'Order', CAST(id AS TEXT),
    'order.charge:' || id, {random}, '[]', 5, :now FROM orders
WHERE id BETWEEN :first AND :last AND state = 'queued' ORDER BY id
"""
RANDOM = {
    "postgresql": "replace(CAST(gen_random_uuid() AS TEXT), '-', '')",
    "sqlite": "lower(hex(randomblob(16)))",
}


def in_bulk(database: Database, ids: Sequence[int]) -> None:
    """Move, tell and enqueue with three statements over all records at once."""
    with database.app.engine.begin() as connection:
        now = bindparam("now", utcnow(), type_=jobs.c.run_at.type)
        values = {"first": ids[0], "last": ids[-1]}
        insert_jobs = BULK_JOBS.format(random=RANDOM[connection.dialect.name])
        for statement in (BULK_MOVE, BULK_HISTORY, insert_jobs):
            connection.execute(text(statement).bindparams(now), values)
        if connection.dialect.name == "postgresql":
            connection.execute(text(NOTIFY))

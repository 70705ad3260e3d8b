"""Floors of W3 and W4 on PostgreSQL."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import psycopg
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from bench.environment import connect
from bench.floors.tables import FloorOrder
from bench.processes import Spec
from bench.records import QUEUE
from statejobs import utcnow

BATCH = 20
BIG_BATCH = 100

CLAIM = f"""
with due as materialized (
    select id from floor_jobs where queue = '{QUEUE}' and state = 'queued'
    order by priority, run_at, id limit %(limit)s for update skip locked)
update floor_jobs j
set state = 'processing', attempt = attempt + 1, owner = 'floor', token = %(token)s,
    lease_until = now() + interval '30 s', started_at = clock_timestamp()
from due where j.id = due.id
returning j.id, j.record_id, j.attempt, j.token
"""
FENCE = "id = %(job)s and attempt = %(attempt)s and token = %(token)s and state = 'processing'"
FINISH = f"""
update floor_jobs
set state = 'completed', finished_at = clock_timestamp(), owner = null, token = null,
    lease_until = null
where {FENCE}
"""
CLAIM_SAME_WORK = f"""
with due as materialized (
    select id, record_id from floor_jobs where queue = '{QUEUE}' and state = 'queued'
    order by priority, run_at, id limit %(limit)s for update skip locked),
free as materialized (
    select o.id from floor_orders o join due on o.id = due.record_id
    where o.state = 'queued' for no key update of o skip locked),
moved as (
    update floor_orders o
    set state = 'processing', state_version = state_version + 1, state_changed_at = now()
    from free where o.id = free.id
    returning o.id, o.state_version),
claimed as (
    update floor_jobs j
    set state = 'processing', attempt = attempt + 1, owner = 'floor', token = %(token)s,
        lease_until = now() + interval '30 s', started_at = clock_timestamp()
    from due join moved on moved.id = due.record_id where j.id = due.id
    returning j.id, j.record_id, j.attempt, j.token),
logged as (
    insert into floor_history (record_id, name, source, target, version, job_id, attempt, at)
    select m.id, 'process_payment.start', 'queued', 'processing', m.state_version, c.id,
           c.attempt, now()
    from moved m join claimed c on c.record_id = m.id)
select * from claimed
"""


def five_statements(spec: Spec, stop: threading.Event) -> None:
    """BEGIN, SELECT and UPDATE the order, UPDATE the job, COMMIT."""
    with connect(spec.url) as connection:
        for claims in _claims(connection, CLAIM, BATCH, stop):
            for job, order, attempt, token in claims:
                with connection.transaction():
                    connection.execute(
                        "select id, total, coupon, charged_at, created_at, state"
                        " from floor_orders where id = %s",
                        (order,),
                    ).fetchone()
                    connection.execute(
                        "update floor_orders set state = 'completed', charged_at = %s"
                        " where id = %s and state = 'queued'",
                        (utcnow(), order),
                    )
                    connection.execute(FINISH, {"job": job, "attempt": attempt, "token": token})


def one_statement(spec: Spec, stop: threading.Event) -> None:
    """Load a batch of ORM objects; write each with its job in one guarded statement."""
    for session, connection in _open_session(spec):
        for claims in _claims(connection, CLAIM, BATCH, stop):
            orders = _load(session, [claim[1] for claim in claims])
            for job, key, attempt, token in claims:
                order = orders[key]
                act(order)
                held = {"job": job, "attempt": attempt, "token": token}
                names = changed_columns(order)
                values = {name: getattr(order, name) for name in names}
                connection.execute(move_and_finish(names), {**values, **held, "order": key})
            session.expunge_all()


def one_statement_same_work(spec: Spec, stop: threading.Event) -> None:
    """The same with `processing` visible, the record's version checked, and history."""
    for session, connection in _open_session(spec):
        for claims in _claims(connection, CLAIM_SAME_WORK, BATCH, stop):
            orders = _load(session, [claim[1] for claim in claims])
            for job, key, attempt, token in claims:
                order = orders[key]
                began = utcnow()
                act(order)
                held = {"job": job, "attempt": attempt, "token": token, "order": key}
                names = changed_columns(order)
                values = {name: getattr(order, name) for name in names}
                now = utcnow()
                seen = {
                    "version": order.state_version,
                    "now": now,
                    "seconds": (now - began).total_seconds(),
                }
                connection.execute(move_log_and_finish(names), {**values, **held, **seen})
            session.expunge_all()


def session_per_job(spec: Spec, stop: threading.Event) -> None:
    """What the users of the peers write: a session for each job."""
    engine = create_engine(spec.url)
    with connect(spec.url) as connection:
        for claims in _claims(connection, CLAIM, BATCH, stop):
            for job, key, attempt, token in claims:
                with Session(engine) as session:
                    act(session.get_one(FloorOrder, key))
                    session.flush()
                    driver: Any = session.connection().connection.driver_connection
                    driver.execute(FINISH, {"job": job, "attempt": attempt, "token": token})
                    session.commit()


def batched(spec: Spec, stop: threading.Event) -> None:
    """Claim 100; one ORM SELECT, one UPDATE of the orders, one of the jobs, one commit."""
    for session, connection in _open_session(spec):
        for claims in _claims(connection, CLAIM, BIG_BATCH, stop):
            orders = _load(session, [claim[1] for claim in claims])
            for order in orders.values():
                act(order)
            with connection.transaction():
                connection.execute(
                    "update floor_orders o set state = n.state, charged_at = n.charged_at"
                    " from unnest(%s::bigint[], %s::text[], %s::timestamptz[])"
                    " n(id, state, charged_at) where o.id = n.id and o.state = 'queued'",
                    (
                        list(orders),
                        [order.state for order in orders.values()],
                        [order.charged_at for order in orders.values()],
                    ),
                )
                _finish_all(connection, claims)
            session.expunge_all()


def no_op_per_job(spec: Spec, stop: threading.Event) -> None:
    """Finish each job in a commit of its own."""
    with connect(spec.url) as connection:
        for claims in _claims(connection, CLAIM, BATCH, stop):
            for job, _, attempt, token in claims:
                connection.execute(FINISH, {"job": job, "attempt": attempt, "token": token})


def no_op_per_batch(spec: Spec, stop: threading.Event) -> None:
    """Finish a hundred jobs with one statement."""
    with connect(spec.url) as connection:
        for claims in _claims(connection, CLAIM, BIG_BATCH, stop):
            _finish_all(connection, claims)


def act(order: FloorOrder) -> None:
    """What the action does."""
    order.state = "completed"
    order.charged_at = utcnow()


def changed_columns(order: FloorOrder) -> tuple[str, ...]:
    """Return the names of what the action changed."""
    return tuple(instance_state(order).committed_state)


@lru_cache
def move_and_finish(columns: tuple[str, ...]) -> str:
    """Move an order out of `queued` and finish its job, or neither."""
    changes = ", ".join(f"{column} = %({column})s" for column in columns)
    return (
        f"with o as (update floor_orders set {changes}"
        f" where id = %(order)s and state = 'queued' returning 1) {FINISH}"
        " and exists (select 1 from o)"
    )


@lru_cache
def move_log_and_finish(columns: tuple[str, ...]) -> str:
    """Move an order out of `processing`, finish its job and log; all or, by an error, nothing."""
    changes = ", ".join(f"{column} = %({column})s" for column in columns)
    return (
        f"with o as (update floor_orders set {changes}, state_version = %(version)s + 1,"
        " state_changed_at = %(now)s where id = %(order)s and state = 'processing'"
        " and state_version = %(version)s returning id),"
        f" j as ({FINISH} and exists (select 1 from o) returning id)"
        " insert into floor_history"
        " (record_id, name, source, target, version, job_id, attempt, duration, at)"
        " select %(order)s, 'process_payment.complete', 'processing', 'completed',"
        " %(version)s + 1 / (select count(*) from j)::int,"  # nothing finished: roll back
        " %(job)s, %(attempt)s, %(seconds)s, %(now)s"
    )


def _claims(
    connection: psycopg.Connection, claim: str, limit: int, stop: threading.Event
) -> Iterator[Sequence[tuple[int, int, int, str]]]:
    while not stop.is_set():
        rows = connection.execute(claim, {"limit": limit, "token": uuid.uuid4().hex}).fetchall()
        if rows:
            yield rows
        else:
            stop.wait(0.01)


def _open_session(spec: Spec) -> Iterator[tuple[Session, psycopg.Connection]]:
    engine = create_engine(spec.url, isolation_level="AUTOCOMMIT")
    with Session(engine, autoflush=False, expire_on_commit=False) as session:
        driver: Any = session.connection().connection.driver_connection
        yield session, driver


def _load(session: Session, keys: Sequence[int]) -> dict[int, FloorOrder]:
    found = session.scalars(select(FloorOrder).where(FloorOrder.id.in_(keys)))
    return {order.id: order for order in found}


def _finish_all(
    connection: psycopg.Connection, claims: Sequence[tuple[int, int, int, str]]
) -> None:
    connection.execute(
        "update floor_jobs set state = 'completed', finished_at = clock_timestamp(),"
        " owner = null, token = null, lease_until = null"
        " where id = any(%s) and token = %s and state = 'processing'",
        ([claim[0] for claim in claims], claims[0][3]),
    )


def finished_between(connection: psycopg.Connection) -> tuple[datetime, datetime]:
    """Return when the first job started and the last one finished."""
    row = connection.execute("select min(started_at), max(finished_at) from floor_jobs").fetchone()
    assert row is not None  # noqa: S101 - an aggregate always has a row
    return row[0], row[1]

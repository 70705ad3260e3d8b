"""Queues in which jobs of other apps wait: what a look shows, and our jobs among them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    ScalarSelect,
    Select,
    String,
    bindparam,
    case,
    exists,
    func,
    literal,
    null,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from statejobs.store.claim import beside, lock_listed, sought
from statejobs.store.conditions import (
    FIRST_TIME,
    KEY_ORDER,
    KEYS,
    LAST_TIME,
    QUEUES,
    as_bytes,
    database_time,
    is_key,
    readable,
)
from statejobs.store.rows import Peek, time_of
from statejobs.store.schedules import next_tick
from statejobs.store.store import Store
from statejobs.store.tables import IS_QUEUED, IS_WAITING_FOR_TIME, jobs
from statejobs.values.job import Job
from statejobs.values.suspects import Suspects

_CANDIDATES = 3
"""So many times what is to be locked is looked at: other nodes lock at the same time."""
_WIDER = 10
"""By so much more is looked at when others hold too many of those."""


def peek_queues(
    store: Store,
    queues: Sequence[str],
    keys: Sequence[str],
    *,
    specs: Sequence[str] = (),
    tick_keys: Sequence[str] = (),
) -> Peek:
    """Look which of *queues* have work for *keys* or for others, and when the next job is due.

    Also when the next tick is, of schedules that have one of *specs*; one of *tick_keys* that is
    not finished is due since it began.
    """
    dialect = store.dialect
    ticks = bool(specs or tick_keys)
    given: dict[str, Any] = {
        "queues": list(queues),
        "keys": list(keys),
        "queue_list": _as_list(queues, dialect),
        "key_list": _as_list(keys, dialect),
    }
    if ticks:
        given |= {"specs": list(specs), "tick_keys": list(tick_keys)}
    with store.unwaiting() as connection:
        rows = connection.execute(_peek(dialect, ticks=ticks), given).all()
    (told, next_due, next_tick, *_) = rows[0] if rows else (None, None, None)
    return Peek(
        next_due=time_of(next_due),
        next_tick=time_of(next_tick),
        ready=frozenset(row.queue for row in rows if row.has_ours),
        strangers=frozenset(row.queue for row in rows if row.has_strangers),
        told=told,
    )


def find_among_strangers(
    connection: Connection,
    queue: str,
    keys: Sequence[str],
    *,
    limit: int,
    suspects: Suspects = Suspects.ANY,
    sturdy: Sequence[str] = (),
) -> Sequence[Any]:
    """Find, without locking, what `lock_among_strangers` would lock."""
    parameters = sought(queue, keys, limit=limit, suspects=suspects, sturdy=sturdy)
    dialect = connection.dialect.name
    given = {**parameters, "key_list": _as_list(parameters["keys"], dialect)}
    del given["keys"]
    return connection.execute(_find_among_strangers(suspects, dialect), given).all()


def lock_among_strangers(
    connection: Connection,
    queue: str,
    keys: Sequence[str],
    *,
    limit: int,
    suspects: Suspects = Suspects.ANY,
    sturdy: Sequence[str] = (),
) -> list[Job]:
    """As `lock_queued`, where many others may wait: looks for each key by itself.

    Those that others hold are passed over; as long as too few are free, more are looked at.
    """
    locked: list[Job] = []
    tried: set[int] = set()
    window = limit * _CANDIDATES
    while True:
        found = find_among_strangers(
            connection, queue, keys, limit=window, suspects=suspects, sturdy=sturdy
        )
        ids = [row.id for row in found if row.id not in tried]
        locked += lock_listed(connection, ids, most=limit - len(locked))
        if len(locked) == limit or len(found) < window:
            return locked
        tried.update(ids)
        window *= _WIDER


def _as_list(names: Sequence[str], dialect: str) -> object:
    return (
        list(names)
        if dialect == "postgresql"
        else msgspec.json.encode(list(names)).decode()
    )


@lru_cache(maxsize=4)
def _peek(dialect: str, *, ticks: bool) -> Select[Any]:
    """Look, without locking, at the time, when the next job is due, and what queues hold.

    For each of `queue_list` whether jobs of `key_list` are queued there, and whether others are.
    It passes from one queued key to the next, and from another app's to the next of ours: so it
    takes at most two steps for each key of ours, however many there are of others.
    """
    ours = _listed("key_list", dialect).cte("ours")
    served = _listed("queue_list", dialect).subquery("served")
    first = _first_key(served, jobs.c.queue == served.c.name)
    seen = select(served.c.name.label("queue"), first.label("key")).cte(
        "seen", recursive=True
    )
    is_ours = exists().where(ours.c.name == seen.c.key).correlate(seen)
    our_next = (
        select(func.min(ours.c.name)).where(ours.c.name > seen.c.key).correlate(seen)
    )
    in_queue = jobs.c.queue == seen.c.queue
    following = case(
        (is_ours, _first_key(seen, in_queue, jobs.c.key > seen.c.key)),
        else_=_first_key(seen, in_queue, jobs.c.key >= our_next.scalar_subquery()),
    )
    seen = seen.union_all(
        select(seen.c.queue, following).where(seen.c.key.is_not(None))
    )
    tick = next_tick(dialect) if ticks else null()
    return _summary(seen, ours, tick, dialect)


def _first_key(
    outer: FromClause, *conditions: ColumnElement[bool]
) -> ScalarSelect[Any]:
    first = (
        select(jobs.c.key).where(IS_QUEUED, *conditions).order_by(jobs.c.key).limit(1)
    )
    return first.correlate(outer).scalar_subquery()


def _summary(
    seen: FromClause, ours: FromClause, tick: ColumnElement[Any], dialect: str
) -> Select[Any]:
    """Return one row for each queue."""
    is_ours = exists().where(ours.c.name == seen.c.key).correlate(seen)
    return select(
        database_time(dialect).label("told"),
        _next_due(dialect).label("next_due"),
        tick.label("next_tick"),
        seen.c.queue,
        func.max(case((is_ours, 1), else_=0)).label("has_ours"),
        func.max(case((seen.c.key.is_(None), 0), (is_ours, 0), else_=1)).label(
            "has_strangers"
        ),
    ).group_by(seen.c.queue)


def _next_due(dialect: str) -> ScalarSelect[Any]:
    """Return when the next job is due; as bytes on SQLite, where it may be anything."""
    ours = IS_WAITING_FOR_TIME, jobs.c.queue.in_(QUEUES), jobs.c.key.in_(KEYS)
    first = func.min(jobs.c.run_at)
    if dialect == "sqlite":
        return select(as_bytes(first, dialect)).where(*ours).scalar_subquery()
    start = literal(FIRST_TIME, jobs.c.run_at.type)
    earliest = case((first < start, start), else_=first)
    return select(earliest).where(*ours, jobs.c.run_at <= LAST_TIME).scalar_subquery()


@lru_cache(maxsize=6)
def _find_among_strangers(suspects: Suspects, dialect: str) -> Select[Any]:
    """Find, without locking, the best queued jobs of `key_list`; as `find_queued_jobs` does."""
    ours = _listed("key_list", dialect).subquery("ours")
    best = (
        select(jobs)
        .where(IS_QUEUED, jobs.c.queue == bindparam("queue"), *beside(suspects))
        .where(is_key(ours.c.name))
        .order_by(*KEY_ORDER)
        .limit(bindparam("limit"))
    )
    if dialect == "postgresql":
        chosen: Any = best.lateral("chosen")
        found = select(*readable(chosen)).join_from(ours, chosen, true())
    else:
        chosen = jobs.alias("chosen")
        of_key = best.with_only_columns(jobs.c.id).correlate(ours)
        found = select(*readable(chosen)).join_from(
            ours, chosen, chosen.c.id.in_(of_key)
        )
    in_order = found.order_by(chosen.c.priority, chosen.c.run_at, chosen.c.id)
    return in_order.limit(bindparam("limit"))


def _listed(name: str, dialect: str) -> Select[Any]:
    """Return the strings of a parameter, an array or JSON, as rows."""
    if dialect == "postgresql":
        return select(func.unnest(bindparam(name, type_=ARRAY(String()))).label("name"))
    each = func.json_each(bindparam(name)).table_valued("value")
    return select(each.c.value.label("name"))

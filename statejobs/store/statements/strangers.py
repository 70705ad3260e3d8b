"""Queues in which jobs of other apps wait: ours are found key by key, whatever else is there.

Each step is one descent into the index of keys.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    ScalarSelect,
    Select,
    String,
    bindparam,
    case,
    exists,
    func,
    literal,
    select,
    true,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import ARRAY

from statejobs.store.statements.claim import beside
from statejobs.store.statements.conditions import (
    FIRST_TIME,
    KEY_ORDER,
    KEYS,
    LAST_TIME,
    QUEUES,
    database_time,
    is_key,
    readable,
)
from statejobs.store.tables import IS_QUEUED, IS_WAITING_FOR_TIME, jobs
from statejobs.values.suspects import Suspects


def peek(dialect: str) -> Select[Any]:
    """Look, without locking, at the time, when the next job is due, and what queues hold.

    For each of `queue_list` whether jobs of `key_list` are queued there, and whether others are.
    It passes from one queued key to the next, and from another app's to the next of ours: so it
    takes at most two steps for each key of ours, however many there are of others.
    """
    ours = _listed("key_list", dialect).cte("ours")
    served = _listed("queue_list", dialect).subquery("served")
    first = _first_key(served, jobs.c.queue == served.c.name)
    seen = select(served.c.name.label("queue"), first.label("key")).cte("seen", recursive=True)
    is_ours = exists().where(ours.c.name == seen.c.key).correlate(seen)
    our_next = select(func.min(ours.c.name)).where(ours.c.name > seen.c.key).correlate(seen)
    in_queue = jobs.c.queue == seen.c.queue
    following = case(
        (is_ours, _first_key(seen, in_queue, jobs.c.key > seen.c.key)),
        else_=_first_key(seen, in_queue, jobs.c.key >= our_next.scalar_subquery()),
    )
    seen = seen.union_all(select(seen.c.queue, following).where(seen.c.key.is_not(None)))
    return _summary(seen, ours, dialect)


def _first_key(outer: FromClause, *conditions: ColumnElement[bool]) -> ScalarSelect[Any]:
    first = select(jobs.c.key).where(IS_QUEUED, *conditions).order_by(jobs.c.key).limit(1)
    return first.correlate(outer).scalar_subquery()


def _summary(seen: FromClause, ours: FromClause, dialect: str) -> Select[Any]:
    """Return one row for each queue."""
    is_ours = exists().where(ours.c.name == seen.c.key).correlate(seen)
    return select(
        database_time(dialect).label("told"),
        _next_due(dialect).label("next_due"),
        seen.c.queue,
        func.max(case((is_ours, 1), else_=0)).label("has_ours"),
        func.max(case((seen.c.key.is_(None), 0), (is_ours, 0), else_=1)).label("has_strangers"),
    ).group_by(seen.c.queue)


def _next_due(dialect: str) -> ScalarSelect[Any]:
    """Return when the next job is due; as text on SQLite, where it may be anything."""
    ours = IS_WAITING_FOR_TIME, jobs.c.queue.in_(QUEUES), jobs.c.key.in_(KEYS)
    first = func.min(jobs.c.run_at)
    if dialect == "sqlite":
        return select(type_coerce(first, String())).where(*ours).scalar_subquery()
    start = literal(FIRST_TIME, jobs.c.run_at.type)
    earliest = case((first < start, start), else_=first)
    return select(earliest).where(*ours, jobs.c.run_at <= LAST_TIME).scalar_subquery()


def find_among_strangers(suspects: Suspects, dialect: str) -> Select[Any]:
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
        found = select(*readable(chosen)).join_from(ours, chosen, chosen.c.id.in_(of_key))
    in_order = found.order_by(chosen.c.priority, chosen.c.run_at, chosen.c.id)
    return in_order.limit(bindparam("limit"))


def _listed(name: str, dialect: str) -> Select[Any]:
    """Return the strings of a parameter, an array or JSON, as rows."""
    if dialect == "postgresql":
        return select(func.unnest(bindparam(name, type_=ARRAY(String()))).label("name"))
    each = func.json_each(bindparam(name)).table_valued("value")
    return select(each.c.value.label("name"))

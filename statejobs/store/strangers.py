"""Queues in which jobs of other apps wait: what a look shows, and our jobs among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import Connection, Select

from statejobs.store.rows import Peek, job_of, time_of
from statejobs.store.statements import strangers as sql
from statejobs.store.statements.unclaimed import lock_listed_jobs
from statejobs.values.job import Job
from statejobs.values.suspects import Suspects

_CANDIDATES = 3
"""So many times what is to be locked is looked at: other nodes lock at the same time."""
_WIDER = 10
"""By so much more is looked at when others hold too many of those."""


def peek(connection: Connection, queues: Sequence[str], keys: Sequence[str]) -> Peek:
    """Look which of *queues* have work for *keys* or for others, and when the next job is due."""
    dialect = connection.dialect.name
    given = {
        "queues": list(queues),
        "keys": list(keys),
        "queue_list": _as_list(queues, dialect),
        "key_list": _as_list(keys, dialect),
    }
    rows = connection.execute(_peek(dialect), given).all()
    (told, next_due, *_) = rows[0] if rows else (None, None)
    return Peek(
        next_due=time_of(next_due),
        ready=frozenset(row.queue for row in rows if row.has_ours),
        strangers=frozenset(row.queue for row in rows if row.has_strangers),
        told=told,
    )


def sought(
    queue: str, keys: Sequence[str], *, limit: int, suspects: Suspects, sturdy: Sequence[str]
) -> dict[str, Any]:
    """Return the parameters of a statement that looks for queued jobs to claim."""
    parameters: dict[str, Any] = {"queue": queue, "keys": list(keys), "limit": limit}
    if suspects is Suspects.SHARING:
        parameters["sturdy"] = list(sturdy)
    return parameters


def find_among_strangers(
    connection: Connection, parameters: Mapping[str, Any], suspects: Suspects
) -> Sequence[Any]:
    """Find, without locking, the best of what is `sought`."""
    dialect = connection.dialect.name
    given = {**parameters, "key_list": _as_list(parameters["keys"], dialect)}
    del given["keys"]
    return connection.execute(_find(suspects, dialect), given).all()


def lock_among_strangers(
    connection: Connection, parameters: Mapping[str, Any], suspects: Suspects
) -> list[Job]:
    """Lock the best of what is `sought`, waiting for nobody.

    Those that others hold are passed over; as long as too few are free, more are looked at.
    """
    limit: int = parameters["limit"]
    locked: list[Job] = []
    tried: set[int] = set()
    window = limit * _CANDIDATES
    while True:
        found = find_among_strangers(connection, {**parameters, "limit": window}, suspects)
        ids = [row.id for row in found if row.id not in tried]
        locked += _lock_some(connection, ids, most=limit - len(locked))
        if len(locked) == limit or len(found) < window:
            return locked
        tried.update(ids)
        window *= _WIDER


def _lock_some(connection: Connection, ids: Sequence[int], *, most: int) -> list[Job]:
    given = {"ids": ids, "limit": most}
    return [job_of(row) for row in connection.execute(_lock(connection.dialect.name), given)]


def _as_list(names: Sequence[str], dialect: str) -> object:
    return list(names) if dialect == "postgresql" else msgspec.json.encode(list(names)).decode()


@lru_cache(maxsize=2)
def _peek(dialect: str) -> Select[Any]:
    return sql.peek(dialect)


@lru_cache(maxsize=6)
def _find(suspects: Suspects, dialect: str) -> Select[Any]:
    return sql.find_among_strangers(suspects, dialect)


@lru_cache(maxsize=2)
def _lock(dialect: str) -> Select[Any]:
    return lock_listed_jobs(dialect)

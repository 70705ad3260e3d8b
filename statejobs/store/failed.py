"""Attempts that failed, the newest first: what was raised, where, and of which job."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, bindparam, or_, select

from statejobs.store.conditions import as_bytes
from statejobs.store.rows import text_of
from statejobs.store.store import Store
from statejobs.store.tables import attempts, jobs

_AT_ONCE = 500
_LARGEST = 2**63 - 1
CRASHED = "crashed"
"""The outcome of attempts that have raised nothing, since their worker died."""


class FailedAttempt(NamedTuple):
    """One attempt that failed."""

    job_id: int
    key: str
    resource: str | None
    record_id: str | None
    outcome: str
    error_type: str | None
    message: str | None
    traceback: str | None


def failed_attempts(store: Store, since: datetime) -> Iterator[FailedAttempt]:
    """Yield the attempts that failed after *since*, the newest first.

    They are written in the order of time, all but, so that no index on the time is needed.
    """
    below = _LARGEST
    query = find_failed(store.dialect)
    while True:
        with store.single() as connection:
            given = {"below": below, "since": since, "limit": _AT_ONCE}
            rows = connection.execute(query, given).all()
        recent = [row for row in rows if row.is_recent]
        yield from map(_attempt_of, recent)
        if len(rows) < _AT_ONCE or not recent:
            return
        below = rows[-1].id


def find_failed(dialect: str) -> Select[Any]:
    """Find attempts of jobs that are still there, by their ids, the largest below `below` first."""
    texts = (
        jobs.c.key,
        jobs.c.resource,
        jobs.c.record_id,
        attempts.c.outcome,
        attempts.c.error_type,
        attempts.c.message,
        attempts.c.traceback,
    )
    since = bindparam("since", type_=attempts.c.finished_at.type)
    return (
        select(
            attempts.c.id,
            attempts.c.job_id,
            *(as_bytes(text, dialect).label(text.name) for text in texts),
            (attempts.c.finished_at >= since).label("is_recent"),
        )
        .join_from(attempts, jobs, jobs.c.id == attempts.c.job_id)
        .where(
            attempts.c.id < bindparam("below"),
            or_(attempts.c.error_type.is_not(None), attempts.c.outcome == CRASHED),
        )
        .order_by(attempts.c.id.desc())
        .limit(bindparam("limit"))
    )


def _attempt_of(row: Row[Any]) -> FailedAttempt:
    found = row._mapping  # noqa: SLF001 - its public name
    _, *texts = FailedAttempt._fields
    return FailedAttempt(row.job_id, *(text_of(found[name]) for name in texts))  # type: ignore[arg-type]

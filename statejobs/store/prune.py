"""Deletes what is old: ended jobs with their attempts, and history, a batch at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, func, select, tuple_

from statejobs.domain.job import JobState
from statejobs.store.statements.conditions import is_listed
from statejobs.store.tables import attempts, jobs, literal_state, transitions


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedJob:
    """A job that may be old enough to go."""

    id: int
    key: str
    record_id: str | None
    finished_at: datetime


Place = tuple[datetime, int]
START: Place = (datetime(1, 1, 1, tzinfo=UTC), 0)


def find_ended(
    connection: Connection, state: JobState, before: datetime, *, after: Place, limit: int,
    lock: bool, only: Sequence[int] | None = None,
) -> list[EndedJob]:  # fmt: skip
    """Return jobs that ended in *state* before then, oldest first, from behind *after* on.

    Args:
        connection: Whose transaction holds the locks.
        state: In which they ended.
        before: How old they are.
        after: `finished_at` and id of the last job of the batch before.
        limit: Most of them.
        lock: Lock them, waiting for nobody; those that others hold are left out.
        only: None but those of these ids.
    """
    place = tuple_(jobs.c.finished_at, jobs.c.id)
    query = (
        select(jobs.c.id, jobs.c.key, jobs.c.record_id, jobs.c.finished_at)
        .where(jobs.c.state == literal_state(state), jobs.c.finished_at < before, place > after)
        .order_by(jobs.c.finished_at, jobs.c.id)
        .limit(limit)
    )
    given: dict[str, object] = {}
    if only is not None:
        query = query.where(is_listed(jobs.c.id, connection.dialect.name))
        given["ids"] = list(only)
    rows = connection.execute(query.with_for_update(skip_locked=True) if lock else query, given)
    return [EndedJob(**row._mapping) for row in rows]  # noqa: SLF001 - its public name


def count_attempts(connection: Connection, ids: Collection[int]) -> int:
    """Return how many attempts the jobs *ids* have."""
    is_theirs = is_listed(attempts.c.job_id, connection.dialect.name)
    query = select(func.count()).where(is_theirs)
    return connection.scalar(query, {"ids": list(ids)}) or 0


def delete_jobs(connection: Connection, ids: Sequence[int]) -> int:
    """Delete jobs that are locked, with their attempts; return how many attempts."""
    if not ids:
        return 0
    dialect = connection.dialect.name
    theirs = delete(attempts).where(is_listed(attempts.c.job_id, dialect))
    gone = connection.execute(theirs, {"ids": ids})
    connection.execute(delete(jobs).where(is_listed(jobs.c.id, dialect)), {"ids": ids})
    return gone.rowcount


def find_history(connection: Connection, before: datetime, *, after: int, limit: int) -> list[int]:
    """Return the ids of rows older than *before* among the *limit* that follow the id *after*.

    Rows are written in the order of time, all but, so that no index on the time is needed.
    """
    next_rows = (
        select(transitions.c.id, transitions.c.at)
        .where(transitions.c.id > after)
        .order_by(transitions.c.id)
        .limit(limit)
        .subquery()
    )
    query = select(next_rows.c.id).where(next_rows.c.at < before).order_by(next_rows.c.id)
    return [row[0] for row in connection.execute(query)]


def delete_history(connection: Connection, ids: Sequence[int]) -> None:
    """Delete rows of history."""
    rows = delete(transitions).where(is_listed(transitions.c.id, connection.dialect.name))
    connection.execute(rows, {"ids": ids})

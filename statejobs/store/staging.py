"""Jobs whose time has come: queues them, once they are due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Executable, Select, Update, bindparam, select, update

from statejobs.store.conditions import KEYS, QUEUES, is_listed, still_in
from statejobs.store.store import Store
from statejobs.store.tables import IS_WAITING_FOR_TIME, jobs, literal_state
from statejobs.values.job import JobState


def stage_due(
    store: Store,
    queues: Sequence[str],
    keys: Sequence[str],
    now: datetime,
    *,
    limit: int = 1000,
) -> frozenset[str]:
    """Queue the jobs of *queues* and *keys* that are due; return the queues that got some."""
    given = {"queues": list(queues), "keys": list(keys), "now": now, "limit": limit}
    with store.unwaiting() as connection:
        return frozenset(row.queue for row in connection.execute(_STAGE, given))


def find_due(
    store: Store,
    queues: Sequence[str],
    keys: Sequence[str],
    now: datetime,
    *,
    limit: int,
) -> list[int]:
    """Return the ids of the jobs that `stage_due` would queue."""
    given = {"queues": list(queues), "keys": list(keys), "now": now, "limit": limit}
    with store.unwaiting() as connection:
        return list(connection.scalars(_FIND_DUE, given))


def stage_listed(store: Store, ids: Sequence[int]) -> frozenset[str]:
    """Queue those of *ids* that wait for their time; return the queues that got some."""
    with store.unwaiting() as connection:
        rows = connection.execute(_stage_listed_jobs(store.dialect), {"ids": list(ids)})
        return frozenset(row.queue for row in rows)


_IS_DUE = jobs.c.run_at <= bindparam("now", type_=jobs.c.run_at.type)


def _stage_due_jobs() -> Executable:
    """Queue the scheduled and failed jobs of some queues and keys, oldest first."""
    due = _find_due_jobs().with_for_update(skip_locked=True).cte("due")
    # a CTE is read once; an IN-subquery's LIMIT may run twice
    return (
        _stage()
        .where(jobs.c.id.in_(select(due.c.id)))
        .returning(jobs.c.id, jobs.c.queue)
    )


def _find_due_jobs() -> Select[Any]:
    """Find, without locking, the jobs that `_stage_due_jobs` would queue."""
    return (
        select(jobs.c.id)
        .where(
            IS_WAITING_FOR_TIME, _IS_DUE, jobs.c.queue.in_(QUEUES), jobs.c.key.in_(KEYS)
        )
        .order_by(jobs.c.run_at)
        .limit(bindparam("limit"))
    )


@lru_cache(maxsize=2)
def _stage_listed_jobs(dialect: str) -> Executable:
    """Queue those of *ids* that wait for their time."""
    return (
        _stage().where(is_listed(jobs.c.id, dialect)).returning(jobs.c.id, jobs.c.queue)
    )


def _stage() -> Update:
    queued = literal_state(JobState.QUEUED)
    still_waits = still_in(JobState.SCHEDULED, JobState.FAILED)
    return update(jobs).where(still_waits).values(state=queued)


_STAGE = _stage_due_jobs()
_FIND_DUE = _find_due_jobs()

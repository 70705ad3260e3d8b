"""Queue the jobs whose time has come."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Executable, Select, Update, bindparam, select, update

from statejobs.store.statements.conditions import KEYS, QUEUES, is_listed, still_in
from statejobs.store.tables import IS_WAITING_FOR_TIME, jobs, literal_state
from statejobs.values.job import JobState

_IS_DUE = jobs.c.run_at <= bindparam("now", type_=jobs.c.run_at.type)


def stage_due_jobs() -> Executable:
    """Queue the scheduled and failed jobs of some queues and keys, oldest first."""
    due = find_due_jobs().with_for_update(skip_locked=True).cte("due")
    # a CTE is read once; an IN-subquery's LIMIT may run twice
    return _stage().where(jobs.c.id.in_(select(due.c.id))).returning(jobs.c.id, jobs.c.queue)


def find_due_jobs() -> Select[Any]:
    """Find, without locking, the jobs that `stage_due_jobs` would queue."""
    return (
        select(jobs.c.id)
        .where(IS_WAITING_FOR_TIME, _IS_DUE, jobs.c.queue.in_(QUEUES), jobs.c.key.in_(KEYS))
        .order_by(jobs.c.run_at)
        .limit(bindparam("limit"))
    )


def stage_listed_jobs(dialect: str) -> Executable:
    """Queue those of *ids* that wait for their time."""
    return _stage().where(is_listed(jobs.c.id, dialect)).returning(jobs.c.id, jobs.c.queue)


def _stage() -> Update:
    queued = literal_state(JobState.QUEUED)
    still_waits = still_in(JobState.SCHEDULED, JobState.FAILED)
    return update(jobs).where(still_waits).values(state=queued)

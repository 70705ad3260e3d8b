"""Queued jobs whose claim raised: find them without decoding them, and settle them one by one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Executable, Select, bindparam, func, select, text, update

from statejobs.store.statements.claim import best_queued
from statejobs.store.statements.conditions import (
    KEY_ORDER,
    is_key,
    is_listed,
    readable,
    still_in,
)
from statejobs.store.tables import IS_QUEUED, jobs, literal_state
from statejobs.values.job import JobState
from statejobs.values.suspects import Suspects

_STILL_QUEUED = still_in(JobState.QUEUED)


def find_queued_jobs(suspects: Suspects) -> Select[Any]:
    """Find, without locking, what a claim would lock."""
    return best_queued(select(*readable(jobs)), suspects)


def find_last_jobs() -> Select[Any]:
    """Find, without locking, the queued jobs of a key whose turn comes last."""
    return (
        select(*readable(jobs))
        .where(IS_QUEUED, jobs.c.queue == bindparam("queue"), is_key(bindparam("key")))
        .order_by(*(column.desc() for column in KEY_ORDER))
        .limit(bindparam("limit"))
    )


def lock_listed_jobs(dialect: str) -> Select[Any]:
    """Lock the best of those of *ids* that are queued, waiting for nobody."""
    return (
        select(jobs)
        .where(is_listed(jobs.c.id, dialect), _STILL_QUEUED)
        .order_by(jobs.c.priority, jobs.c.run_at, jobs.c.id)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
    )


def put_back_job() -> Executable:
    """Put a queued job back for a while without an attempt, and note why."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), _STILL_QUEUED)
        .values(
            state=literal_state(JobState.SCHEDULED),
            run_at=bindparam("until", type_=jobs.c.run_at.type),
            reason=bindparam("why"),
        )
    )


def fail_queued_job() -> Executable:
    """Count an attempt of a queued job whose record was not moved."""
    next_run_at = bindparam("next_run_at", type_=jobs.c.run_at.type)
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), jobs.c.attempt == bindparam("was"), _STILL_QUEUED)
        .values(
            state=bindparam("new_state"),
            attempt=jobs.c.attempt + 1,
            run_at=func.coalesce(next_run_at, jobs.c.run_at),
            finished_at=bindparam("ended_at", type_=jobs.c.finished_at.type),
            reason=bindparam("why"),
        )
    )


def discard_queued_job() -> Executable:
    """Give up a queued job that cannot even be read."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), _STILL_QUEUED)
        .values(
            state=literal_state(JobState.DISCARDED),
            reason=bindparam("why"),
            finished_at=bindparam("now", type_=jobs.c.finished_at.type),
            attempt=jobs.c.attempt + 1,
        )
    )


def find_locked_tables() -> Executable:
    """Find the tables of this PostgreSQL database that others have locked, and which process."""
    return text(
        "SELECT DISTINCT c.relname, l.pid FROM pg_catalog.pg_locks l"
        " JOIN pg_catalog.pg_class c ON c.oid = l.relation"
        " JOIN pg_catalog.pg_database d ON d.oid = l.database"
        " WHERE d.datname = current_database() AND l.granted AND l.pid <> pg_backend_pid()"
        " AND c.relkind IN ('r', 'p')"
        " AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',"
        " 'AccessExclusiveLock')"
        " ORDER BY 1, 2"
    )

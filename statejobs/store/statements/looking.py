"""Counts, and the jobs of a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Executable,
    Select,
    func,
    select,
)

from statejobs.domain.job import JobState
from statejobs.domain.lifecycle import STUCK
from statejobs.store.tables import (
    IS_OPEN,
    IS_QUEUED,
    jobs,
    literal_state,
    transitions,
)


def count_jobs() -> Select[Any]:
    """Count jobs by queue and state."""
    return (
        select(jobs.c.queue, jobs.c.state, func.count())
        .group_by(jobs.c.queue, jobs.c.state)
        .order_by(jobs.c.queue, jobs.c.state)
    )


def oldest_queued() -> Select[Any]:
    """Return for each queue since when its oldest queued job waits."""
    return select(jobs.c.queue, func.min(jobs.c.run_at)).where(IS_QUEUED).group_by(jobs.c.queue)


def find_stuck_jobs() -> Select[Any]:
    """Return jobs that were given up because their record could not be moved, newest first."""
    return (
        select(jobs)
        .where(
            jobs.c.state == literal_state(JobState.DISCARDED),
            jobs.c.reason.startswith(STUCK, autoescape=True),
        )
        .order_by(jobs.c.finished_at.desc(), jobs.c.id.desc())
    )


def find_jobs_of_record(resource: str, record_id: str, keys: Sequence[str]) -> Executable:
    """Find the ids of the jobs of a record: the completed in its history, the others by key."""
    completed = (
        select(transitions.c.job_id)
        .where(transitions.c.resource == resource, transitions.c.record_id == record_id)
        .where(transitions.c.job_id.is_not(None))
    )
    others = select(jobs.c.id).where(
        jobs.c.dedupe_key.in_([f"{key}:{record_id}" for key in keys]), IS_OPEN
    )
    return completed.union(others)

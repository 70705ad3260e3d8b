"""Jobs under a former key of their trigger: whoever enqueues under its key of today finds them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    Executable,
    FromClause,
    Text,
    bindparam,
    exists,
    literal,
    or_,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from statejobs.store.bulk import locked_jobs_of_rows
from statejobs.store.tables import HOLDS_KEY, jobs, literal_state
from statejobs.values.job import JobState


def adopt_job() -> Executable:
    """Give the job that holds `former_key` that of today, unless that has a job too.

    Its `key` stays, so that a node whose code is older still runs it.
    """
    present = bindparam("present_key", type_=Text())
    return (
        update(jobs)
        .where(
            jobs.c.dedupe_key == bindparam("former_key"), HOLDS_KEY, ~_has_job(present)
        )
        .values(dedupe_key=present)
    )


def adopt_jobs_of_rows(
    dialect: str, rows: FromClause, former: str, present: str, sources: Sequence[str]
) -> Executable:
    """Do the same for jobs of *rows* that left one of *sources*, by the start of their keys."""
    today = literal(present, Text()) + jobs.c.record_id
    locked = locked_jobs_of_rows(dialect, rows, former, sources, HOLDS_KEY)
    return (
        update(jobs)
        .where(jobs.c.id.in_(locked), HOLDS_KEY, ~_has_job(today))
        .values(dedupe_key=today)
    )


def _has_job(dedupe_key: ColumnElement[str]) -> ColumnElement[bool]:
    other = jobs.alias("present_jobs")
    holds_key = or_(
        other.c.state != literal_state(JobState.COMPLETED),
        other.c.unique_until.is_not(None),
    )
    return exists().where(other.c.dedupe_key == dedupe_key, holds_key)

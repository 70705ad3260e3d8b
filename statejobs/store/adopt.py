"""Jobs under a former key of their trigger: whoever enqueues under its key of today finds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import (
    Connection,
    Executable,
    FromClause,
    Text,
    bindparam,
    exists,
    literal,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from statejobs.store.bulk import locked_jobs_of_rows
from statejobs.store.enqueue import Records
from statejobs.store.lock_order import job_order
from statejobs.store.tables import IS_OPEN, jobs, literal_state
from statejobs.store.upsert import lock_records, names_of_locks
from statejobs.values.job import JobState


def adopt_jobs(
    connection: Connection, former: Mapping[str, str], *, records: Records | None = None
) -> None:
    """Give open jobs, by their former dedupe key, the one of today, unless that has a job too.

    Their `key` stays, so that a node whose code is older still runs them. *records* that the
    transaction has not locked yet are locked before any job is.
    """
    if records is not None and connection.dialect.name == "postgresql":
        is_single = len(records.columns) == 1
        keys = [key[0] for key in records.identities] if is_single else list(records.identities)
        name = names_of_locks(records.columns)["record_keys"]
        connection.execute(lock_records(records.columns, connection.dialect.name), {name: keys})
    rows = [
        {"former_key": key, "present_key": former[key]} for key in sorted(former, key=job_order)
    ]
    connection.execute(_ADOPT, rows)


def adopt_jobs_of_rows(
    dialect: str, rows: FromClause, former: str, present: str, sources: Sequence[str]
) -> Executable:
    """Do the same for the jobs of *rows* that left one of *sources*, by the start of their keys."""
    today = literal(present, Text()) + jobs.c.record_id
    locked = locked_jobs_of_rows(dialect, rows, former, sources, IS_OPEN)
    return (
        update(jobs)
        .where(jobs.c.id.in_(locked), IS_OPEN, ~_has_job(today))
        .values(dedupe_key=today)
    )


def _has_job(dedupe_key: ColumnElement[str]) -> ColumnElement[bool]:
    other = jobs.alias("present_jobs")
    is_open = other.c.state != literal_state(JobState.COMPLETED)
    return exists().where(other.c.dedupe_key == dedupe_key, is_open)


_PRESENT = bindparam("present_key", type_=Text())
_ADOPT = (
    update(jobs)
    .where(jobs.c.dedupe_key == bindparam("former_key"), IS_OPEN, ~_has_job(_PRESENT))
    .values(dedupe_key=_PRESENT)
)

"""Finishes many jobs at once, each still by itself: who moved on, or is held, is left out.

Jobs that were enqueued anew while they ran are left out as well, so that every job that is finished
here is simply completed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Select,
    Update,
    and_,
    bindparam,
    case,
    false,
    func,
    literal_column,
    select,
    update,
)

from statejobs.store.arrays import array_of
from statejobs.store.conditions import STILL_PROCESSING
from statejobs.store.history import history_from
from statejobs.store.naming import ALONE, Names
from statejobs.store.records import RecordTable, given_columns, lock_given, move_given
from statejobs.store.tables import jobs, literal_state, transitions
from statejobs.store.types import UtcDateTime
from statejobs.values.job import JobState

BRIEFLY = timedelta(milliseconds=50)
"""How long what many share waits for a lock: rows are skipped, but indexes, foreign keys and tables
have locks of their own."""
JOB_ARRAYS = {"job_id": jobs.c.id, "attempt": jobs.c.attempt, "token": jobs.c.token}
"""What names the claim of a job."""


def complete_jobs() -> Any:
    """Complete the processing jobs of three arrays, those that are ours and nobody holds."""
    given = _given(JOB_ARRAYS, ALONE)
    held = _lock_jobs(given, []).cte("held")
    return _complete(held, ALONE)


def move_and_complete(
    records: RecordTable, changed: Sequence[Column[Any]], *, has_history: bool
) -> Any:
    """Move the records of many jobs and complete these, in one statement.

    Locks are taken in the order record, job, and none is waited for. A job whose record did not
    move, since a trigger of the database kept it, is left as it is. Parameters are the arrays
    `given_…` of `JOB_ARRAYS`, `pk_N`, `was`, `version` and `c_N` for each changed column; and
    `becomes` and `moved_at`; for history also `given_duration`, `of_resource` and `of_edge`; all
    called as the names beside their table say. Returns the ids of the jobs.

    Args:
        records: Where they are.
        changed: Columns that are written with the move.
        has_history: Whether a row of history is written for each.
    """
    names = records.names
    given = _given(
        {
            **JOB_ARRAYS,
            **given_columns(records, changed),
            **({"duration": transitions.c.duration} if has_history else {}),
        },
        names,
    )
    record = lock_given(records, given).cte(names["record"])
    held = _lock_jobs(given, [record]).cte(names["held"])
    at = bindparam(names["moved_at"], type_=UtcDateTime)
    target = bindparam(names["becomes"], type_=records.state.type)
    moved = (
        move_given(records, given, changed, target=target, at=at)
        .where(given.c.job_id == held.c.id)
        .returning(given.c.job_id.label("id"))
        .cte(names["moved"])
    )
    finish = _complete(moved, names)
    return finish.add_cte(_write_history(given, moved, at, names)) if has_history else finish


def complete_one() -> Update:
    """Complete a job that is ours and was not enqueued anew, without asking for its row."""
    return (
        update(jobs)
        .where(
            jobs.c.id == bindparam("job_id"),
            jobs.c.attempt == bindparam("held_attempt"),
            jobs.c.token == bindparam("held"),
            STILL_PROCESSING,
            ~jobs.c.run_again,
        )
        .values(_completed(ALONE))
    )


def _given(columns: Mapping[str, Column[Any]], names: Names) -> CTE:
    return select(
        *(
            func.unnest(bindparam(names[f"given_{name}"], type_=array_of(column))).label(name)
            for name, column in columns.items()
        )
    ).cte(names["given"])


def _lock_jobs(given: CTE, records: Sequence[CTE]) -> Select[Any]:
    is_ours: list[ColumnElement[bool]] = [
        jobs.c.id == given.c.job_id,
        jobs.c.attempt == given.c.attempt,
        jobs.c.token == given.c.token,
    ]
    query = select(jobs.c.id).select_from(given).join(jobs, and_(*is_ours))
    for record in records:
        query = query.join(record, record.c.job_id == jobs.c.id)
    return query.where(STILL_PROCESSING, ~jobs.c.run_again).with_for_update(
        skip_locked=True, of=jobs
    )


def _complete(found: CTE, names: Names) -> Any:
    done = update(jobs).where(jobs.c.id == found.c.id).values(_completed(names))
    return done.returning(jobs.c.id)


def _completed(names: Names) -> dict[str, Any]:
    return {
        "state": literal_state(JobState.COMPLETED),
        "finished_at": bindparam(names["moved_at"], type_=UtcDateTime),
        "reason": None,
        "checkpoint": None,
        "cancel_requested": false(),
        "returned": literal_column("0"),
        "owner": None,
        "token": None,
        "lease_until": None,
    }


def _write_history(given: CTE, moved: CTE, at: ColumnElement[Any], names: Names) -> CTE:
    target = bindparam(names["becomes"], type_=transitions.c.target.type)
    varied = {
        "record_id": jobs.c.record_id,
        "source": given.c.was,
        "version": case((given.c.was == target, given.c.version), else_=given.c.version + 1),
        "actor": jobs.c.actor,
        "tenant": jobs.c.tenant,
        "job_id": given.c.job_id,
        "attempt": given.c.attempt,
        "duration": given.c.duration,
    }
    same = {
        "resource": bindparam(names["of_resource"], type_=transitions.c.resource.type),
        "name": bindparam(names["of_edge"], type_=transitions.c.name.type),
        "target": target,
        "args": None,
        "reason": None,
        "at": at,
    }
    rows = given.join(moved, moved.c.id == given.c.job_id).join(jobs, jobs.c.id == given.c.job_id)
    return history_from(rows, varied, same).cte(names["history"])

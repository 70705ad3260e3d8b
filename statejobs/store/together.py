"""Completes many jobs at once, each still by itself: who moved on, or is held, is left out.

Jobs that were enqueued anew while they ran are left out as well, so that every job that is finished
here is simply completed. Where a CTE may write, arrays name the jobs and their records, and one
statement does all; elsewhere the same is done by one call for each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Connection,
    Select,
    Update,
    and_,
    bindparam,
    case,
    false,
    literal_column,
    select,
    update,
)

from statejobs.store.arrays import can_be_given
from statejobs.store.conditions import STILL_PROCESSING
from statejobs.store.history import history_from, write_history
from statejobs.store.hold import lock_jobs
from statejobs.store.landing import Move, given_moves
from statejobs.store.naming import ALONE, Names
from statejobs.store.records import (
    RecordTable,
    given_columns,
    given_rows,
    lock_given,
    move_each,
    move_given,
)
from statejobs.store.tables import jobs, literal_outcome, literal_state, transitions
from statejobs.store.types import UtcDateTime
from statejobs.values.job import Job, JobOutcome, JobState

BRIEFLY = timedelta(milliseconds=50)
"""How long what many share waits for a lock: rows are skipped, but indexes, foreign keys and tables
have locks of their own, and see `lock_order` for when PostgreSQL waits for a row all the same."""
JOB_ARRAYS = {"job_id": jobs.c.id, "attempt": jobs.c.attempt, "token": jobs.c.token}
"""What names the claim of a job."""


def complete_given(
    connection: Connection,
    held: Sequence[Job],
    now: datetime,
    *,
    results: Sequence[str] | None = None,
) -> set[int]:
    """Complete those of *held* that are ours and nobody holds, by one statement with arrays.

    Args:
        connection: With or without a transaction.
        held: Jobs that have no record to move.
        now: When.
        results: What the task of each returned, as JSON; None where none returned anything.

    Returns:
        Their ids.
    """
    given: dict[str, Any] = {**_given_jobs(held), "moved_at": now}
    if results is None:
        return set(connection.execute(_COMPLETE_GIVEN, given).scalars())
    given["given_result"] = list(results)
    return set(connection.execute(_COMPLETE_WITH_RESULTS, given).scalars())


def land_given(
    connection: Connection, held: Sequence[Job], moves: Sequence[Move], now: datetime
) -> set[int]:
    """Make *moves*, all alike, and complete the jobs whose records moved, by one statement.

    Locks are taken in the order record, job, and none is waited for. A job whose record did not
    move, since a trigger of the database kept it, is left as it is.

    Returns:
        The ids of the jobs that are completed.
    """
    first = moves[0]
    records = first.records
    columns = first.columns
    told = first.history
    if not all(map(can_be_given, (*records.keys, *columns))):
        return set()
    given = {
        **_given_jobs(held),
        **given_moves(moves),
        "becomes": first.becomes,
        "moved_at": now,
    }
    if told is not None:
        given |= {
            "given_duration": [
                move.history and move.history.duration for move in moves
            ],
            "of_resource": told.resource,
            "of_edge": told.name,
        }
    statement = _land_and_complete(records, columns, has_history=told is not None)
    return set(connection.execute(statement, records.names.of(given)).scalars())


def complete_each(
    connection: Connection,
    held: Sequence[Job],
    now: datetime,
    *,
    results: Sequence[str] | None = None,
) -> bool:
    """Complete *held* by one call; return whether all are ours and not asked for again."""
    rows: list[dict[str, Any]] = [
        {
            "job_id": job.id,
            "held_attempt": job.attempt,
            "held": job.token,
            "moved_at": now,
        }
        for job in held
    ]
    if results is None:
        return connection.execute(_COMPLETE_ONE, rows).rowcount == len(rows)
    for row, result in zip(rows, results, strict=True):
        row["returned_value"] = result
    return connection.execute(_COMPLETE_ONE_WITH_RESULT, rows).rowcount == len(rows)


def complete_all(
    connection: Connection, held: Sequence[Job], now: datetime, *, by_arrays: bool
) -> set[int]:
    """Complete those of *held* that are ours and not asked for again, waiting for others.

    Returns:
        Their ids; without arrays, of all or of none.
    """
    if by_arrays:
        lock_jobs(connection, [job.id for job in held])
        return complete_given(connection, held, now)
    savepoint = connection.begin_nested()
    if complete_each(connection, held, now):
        savepoint.commit()
        return {job.id for job in held}
    savepoint.rollback()
    return set()


def land_each(
    connection: Connection, held: Sequence[Job], moves: Sequence[Move], now: datetime
) -> bool:
    """Make *moves*, all alike, and complete *held*; return whether all went as they should."""
    statement = move_each(moves[0].records, moves[0].columns)
    rows = [move.parameters() for move in moves]
    if connection.execute(statement, rows).rowcount != len(rows):
        return False
    if not complete_each(connection, held, now):
        return False
    history = [move.history for move in moves if move.history is not None]
    if history:
        write_history(connection, history)
    return True


def _given_jobs(held: Sequence[Job]) -> dict[str, Any]:
    return {
        "given_job_id": [job.id for job in held],
        "given_attempt": [job.attempt for job in held],
        "given_token": [job.token for job in held],
    }


@lru_cache(maxsize=1024)
def _land_and_complete(
    records: RecordTable, changed: tuple[Column[Any], ...], *, has_history: bool
) -> Any:
    """Return the statement of `land_given`.

    Parameters are the arrays `given_…` of `JOB_ARRAYS`, of `given_columns` and, for history, of
    the durations; and `becomes` and `moved_at`; for history also `of_resource` and `of_edge`; all
    called as the names beside the table say.
    """
    names = records.names
    given = given_rows(
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
    return (
        finish.add_cte(_write_history(given, moved, at, names))
        if has_history
        else finish
    )


def _complete_given_jobs() -> Any:
    """Complete the processing jobs of three arrays, those that are ours and nobody holds."""
    given = given_rows(JOB_ARRAYS, ALONE)
    held = _lock_jobs(given, []).cte("held")
    return _complete(held, ALONE)


def _complete_given_with_results() -> Any:
    """The same, with a fourth array: what their tasks returned."""
    given = given_rows({**JOB_ARRAYS, "result": jobs.c.result}, ALONE)
    held = _lock_jobs(given, []).add_columns(given.c.result).cte("held")
    return _complete(held, ALONE, result=held.c.result)


def _complete_one(**more: Any) -> Update:
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
        .values({**_completed(ALONE), **more})
    )


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


def _complete(found: CTE, names: Names, **more: Any) -> Any:
    values = {**_completed(names), **more}
    done = update(jobs).where(jobs.c.id == found.c.id).values(values)
    return done.returning(jobs.c.id)


def _completed(names: Names) -> dict[str, Any]:
    return {
        "state": literal_state(JobState.COMPLETED),
        "outcome": literal_outcome(JobOutcome.COMPLETED),
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
        "version": case(
            (given.c.was == target, given.c.version), else_=given.c.version + 1
        ),
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
    rows = given.join(moved, moved.c.id == given.c.job_id).join(
        jobs, jobs.c.id == given.c.job_id
    )
    return history_from(rows, varied, same).cte(names["history"])


_COMPLETE_GIVEN = _complete_given_jobs()
_COMPLETE_WITH_RESULTS = _complete_given_with_results()
_COMPLETE_ONE = _complete_one()
_COMPLETE_ONE_WITH_RESULT = _complete_one(
    result=bindparam("returned_value", type_=jobs.c.result.type)
)

"""Processing jobs: settled, and what is told of attempts that did not complete."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Executable,
    Select,
    and_,
    bindparam,
    case,
    false,
    func,
    insert,
    or_,
    select,
    update,
)

from statejobs.store.conditions import STILL_PROCESSING
from statejobs.store.naming import ALONE, Names
from statejobs.store.rows import Expired
from statejobs.store.store import Store
from statejobs.store.tables import attempts, jobs, literal_outcome, literal_state
from statejobs.values.failure import Failure
from statejobs.values.job import Job, JobOutcome, JobState
from statejobs.values.lifecycle import Settlement


def finish_job(
    connection: Connection,
    job: Job,
    settlement: Settlement,
    *,
    now: datetime,
    rests_in_source: bool,
    allowance: int,
) -> JobState | None:
    """Settle a processing job; return its new state, or None when it is no longer ours."""
    parameters = finish_parameters(
        job, settlement, now=now, rests_in_source=rests_in_source, allowance=allowance
    )
    row = connection.execute(_FINISH, parameters).first()
    return None if row is None else JobState(row[0])


def finish_parameters(
    job: Job,
    settlement: Settlement,
    *,
    now: datetime,
    rests_in_source: bool,
    allowance: int,
) -> dict[str, Any]:
    """Return the parameters of `finishing`."""
    return {
        "job_id": job.id,
        "held_attempt": job.attempt,
        "held": job.token,
        "new_state": settlement.state.value,
        "new_attempt": settlement.attempt,
        "new_crashes": settlement.crashes,
        "new_returned": settlement.returned,
        "next_run_at": settlement.run_at,
        "ended_at": now if settlement.is_ended else None,
        "finished_now": now,
        "new_outcome": settlement.outcome and settlement.outcome.value,
        "new_snoozes": settlement.snoozes,
        "why": settlement.reason,
        "rests_in_source": rests_in_source,
        "granted": allowance,
    }


def find_settled(store: Store, job: Job) -> tuple[JobState, int] | None:
    """Return state and attempts of *job* when the attempt that we began has been ended."""
    with store.unwaiting() as connection:
        found = {"job_id": job.id, "began": job.started_at}
        row = connection.execute(_SETTLED, found).first()
    return None if row is None else (JobState(row.state), row.attempt)


def find_cancel_request(connection: Connection, job: Job) -> str | None:
    """Lock a job that we hold; return the reason for which someone wants it to stop."""
    row = connection.execute(_HELD, {"job_id": job.id, "held": job.token}).first()
    return (
        (row.reason or "cancelled")
        if row is not None and row.cancel_requested
        else None
    )


def record_attempt(
    connection: Connection,
    job: Job | Expired,
    outcome: str,
    *,
    now: datetime,
    failure: Failure | None = None,
    message: str | None = None,
) -> None:
    """Write how an attempt ended that did not complete."""
    insert_attempt(
        connection,
        {
            "job_id": job.id,
            "attempt": job.attempt,
            "outcome": outcome,
            "error_type": failure.error_type if failure else None,
            "message": failure.message if failure else message,
            "traceback": (failure.traceback or None) if failure else None,
            "node": job.owner,
            "started_at": job.started_at,
            "finished_at": now,
        },
    )


def insert_attempt(connection: Connection, row: Mapping[str, Any]) -> None:
    """Write a row of an attempt."""
    connection.execute(_ATTEMPT, dict(row))


def finishing(names: Names) -> Executable:
    """Fence and settle a processing job; zero rows mean that it is no longer ours.

    A job that was enqueued while it ran is queued anew when its record rests in a source; or
    scheduled, when it was enqueued for a time that has not come. *names* are those of parameters.
    """
    again = and_(
        jobs.c.run_again,
        bindparam(names["rests_in_source"], type_=jobs.c.run_again.type),
    )
    later = and_(
        again,
        jobs.c.run_at > bindparam(names["finished_now"], type_=jobs.c.run_at.type),
    )
    outcome = bindparam(names["new_outcome"], type_=jobs.c.outcome.type)
    completes = outcome == literal_outcome(JobOutcome.COMPLETED)
    allowance = bindparam(names["granted"], type_=jobs.c.allowance.type)
    keep_time = bindparam(names["next_run_at"], type_=jobs.c.run_at.type)
    return (
        update(jobs)
        .where(
            jobs.c.id == bindparam(names["job_id"]),
            jobs.c.attempt == bindparam(names["held_attempt"]),
            jobs.c.token == bindparam(names["held"]),
            STILL_PROCESSING,
        )
        .values(
            state=case(
                (later, literal_state(JobState.SCHEDULED)),
                (again, literal_state(JobState.QUEUED)),
                else_=bindparam(names["new_state"]),
            ),
            attempt=case((again, 0), else_=bindparam(names["new_attempt"])),
            max_attempts=case(
                (again, func.coalesce(jobs.c.allowance, allowance)),
                else_=jobs.c.max_attempts,
            ),
            crashes=case((again, 0), else_=bindparam(names["new_crashes"])),
            snoozes=case((again, 0), else_=bindparam(names["new_snoozes"])),
            run_at=case(
                (again, jobs.c.run_at), else_=func.coalesce(keep_time, jobs.c.run_at)
            ),
            finished_at=case(
                (again, None),
                else_=bindparam(names["ended_at"], type_=jobs.c.finished_at.type),
            ),
            outcome=case((again, None), else_=outcome),
            reason=case(
                (again, None), else_=bindparam(names["why"], type_=jobs.c.reason.type)
            ),
            checkpoint=case(
                (or_(again, completes), None),
                else_=jobs.c.checkpoint,
            ),
            result=case((again, None), else_=jobs.c.result),
            returned=bindparam(names["new_returned"]),
            progress=case((or_(again, outcome.is_(None)), None), else_=jobs.c.progress),
            # What is asked for again after it was done is new work; no other job has this token.
            idempotency_key=case(
                (and_(again, completes), jobs.c.token), else_=jobs.c.idempotency_key
            ),
            run_again=false(),
            cancel_requested=false(),
            owner=None,
            token=None,
            lease_until=None,
        )
        .returning(jobs.c.state)
    )


def _lock_held_job() -> Select[Any]:
    """Lock a processing job that is still ours; return whether it shall stop, and why."""
    return (
        select(jobs.c.cancel_requested, jobs.c.reason)
        .where(
            jobs.c.id == bindparam("job_id"),
            jobs.c.token == bindparam("held"),
            STILL_PROCESSING,
        )
        .with_for_update()
    )


def _find_settled_job() -> Select[Any]:
    """Find a job that nobody holds, and that nobody has claimed since *began*."""
    return select(jobs.c.state, jobs.c.attempt).where(
        jobs.c.id == bindparam("job_id"),
        jobs.c.started_at == bindparam("began", type_=jobs.c.started_at.type),
        jobs.c.token.is_(None),
    )


def _insert_attempts() -> Executable:
    """Write rows for attempts that did not complete."""
    return insert(attempts)


_HELD = _lock_held_job()
_FINISH = finishing(ALONE)
_SETTLED = _find_settled_job()
_ATTEMPT = _insert_attempts()

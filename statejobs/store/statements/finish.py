"""Settle jobs, and write of attempts that did not complete."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Executable,
    Select,
    and_,
    bindparam,
    case,
    false,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)

from statejobs.store.naming import Names
from statejobs.store.statements.conditions import STILL_PROCESSING
from statejobs.store.tables import (
    attempts,
    jobs,
    literal_state,
)
from statejobs.values.job import JobState


def finish_job(names: Names) -> Executable:
    """Fence and settle a processing job; zero rows mean that it is no longer ours.

    A job that was enqueued while it ran is queued anew when its record rests in a source; or
    scheduled, when it was enqueued for a time that has not come. *names* are those of parameters.
    """
    again = and_(jobs.c.run_again, bindparam(names["rests_in_source"], type_=jobs.c.run_again.type))
    later = and_(again, jobs.c.run_at > bindparam(names["finished_now"], type_=jobs.c.run_at.type))
    completes = bindparam(names["completes"], type_=jobs.c.run_again.type)
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
            max_attempts=case((again, bindparam(names["allowance"])), else_=jobs.c.max_attempts),
            crashes=case((again, 0), else_=bindparam(names["new_crashes"])),
            run_at=case((again, jobs.c.run_at), else_=func.coalesce(keep_time, jobs.c.run_at)),
            finished_at=case(
                (again, None), else_=bindparam(names["ended_at"], type_=jobs.c.finished_at.type)
            ),
            reason=case((again, None), else_=bindparam(names["why"], type_=jobs.c.reason.type)),
            checkpoint=case(
                (or_(again, completes), None),
                else_=jobs.c.checkpoint,
            ),
            returned=bindparam(names["new_returned"]),
            progress=case(
                (or_(again, not_(bindparam(names["is_ended"], type_=jobs.c.run_again.type))), None),
                else_=jobs.c.progress,
            ),
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


def lock_held_job() -> Select[Any]:
    """Lock a processing job that is still ours; return whether it shall stop, and why."""
    return (
        select(jobs.c.cancel_requested, jobs.c.reason)
        .where(
            jobs.c.id == bindparam("job_id"), jobs.c.token == bindparam("held"), STILL_PROCESSING
        )
        .with_for_update()
    )


def find_settled_job() -> Select[Any]:
    """Find a job that nobody holds, and that nobody has claimed since *began*."""
    return select(jobs.c.state, jobs.c.attempt).where(
        jobs.c.id == bindparam("job_id"),
        jobs.c.started_at == bindparam("began", type_=jobs.c.started_at.type),
        jobs.c.token.is_(None),
    )


def insert_attempts() -> Executable:
    """Write rows for attempts that did not complete."""
    return insert(attempts)

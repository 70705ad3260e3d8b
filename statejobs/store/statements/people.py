"""What people ask for."""

from __future__ import annotations

from sqlalchemy import (
    Executable,
    bindparam,
    case,
    update,
)

from statejobs.store.statements.conditions import STILL_PROCESSING, still_in
from statejobs.store.tables import (
    jobs,
    literal_state,
)
from statejobs.values.job import ENDED, WAITING, JobState


def cancel_waiting_job() -> Executable:
    """Cancel a job that waits."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), still_in(*WAITING))
        .values(
            state=literal_state(JobState.CANCELLED),
            reason=bindparam("why"),
            finished_at=bindparam("now", type_=jobs.c.finished_at.type),
        )
    )


def request_cancel() -> Executable:
    """Ask a running job to stop."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), STILL_PROCESSING)
        .values(cancel_requested=True, reason=bindparam("why"))
    )


def restore_actor() -> Executable:
    """Give a job back whom and for whom it was asked for."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"))
        .values(actor=bindparam("by"), tenant=bindparam("within"))
    )


def requeue_job() -> Executable:
    """Queue a waiting or ended job at once; an ended one gets *allowance* further attempts."""
    ended = still_in(*ENDED)
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), still_in(*WAITING, *ENDED))
        .values(
            state=literal_state(JobState.QUEUED),
            run_at=bindparam("now", type_=jobs.c.run_at.type),
            max_attempts=case(
                (ended, jobs.c.attempt + bindparam("allowance")), else_=jobs.c.max_attempts
            ),
            crashes=case((ended, 0), else_=jobs.c.crashes),
            returned=0,
            finished_at=None,
            progress=None,
            reason=None,
        )
    )

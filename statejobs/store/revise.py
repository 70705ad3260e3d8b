"""Jobs that people take in hand: cancelled, asked to stop, or let go on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Executable, bindparam, case, update

from statejobs.store.conditions import STILL_PROCESSING, still_in
from statejobs.store.tables import jobs, literal_state
from statejobs.values.job import ENDED, WAITING, Job, JobState


def restore_actor(connection: Connection, job: Job) -> None:
    """Give a job back the actor and the tenant that *job* has."""
    given = {"job_id": job.id, "by": job.actor, "within": job.tenant}
    connection.execute(_RESTORE_ACTOR, given)


def cancel_waiting(
    connection: Connection, job_id: int, reason: str, now: datetime
) -> bool:
    """Cancel a waiting job; False when it does not wait."""
    params = {"job_id": job_id, "why": reason, "now": now}
    return connection.execute(_CANCEL, params).rowcount == 1


def request_cancel(connection: Connection, job_id: int, reason: str) -> bool:
    """Ask a running job to stop; False when it does not run."""
    return connection.execute(_REQUEST, {"job_id": job_id, "why": reason}).rowcount == 1


def cancel_all_waiting(
    connection: Connection, job_ids: Sequence[int], reason: str, now: datetime
) -> None:
    """Cancel those of *job_ids* that wait."""
    connection.execute(
        _CANCEL, [{"job_id": job_id, "why": reason, "now": now} for job_id in job_ids]
    )


def request_cancel_of_all(
    connection: Connection, job_ids: Sequence[int], reason: str
) -> None:
    """Ask those of *job_ids* that run to stop."""
    connection.execute(
        _REQUEST, [{"job_id": job_id, "why": reason} for job_id in job_ids]
    )


def requeue(connection: Connection, job_id: int, allowance: int, now: datetime) -> bool:
    """Queue a waiting or ended job at once; False when it is processing or gone."""
    params = {"job_id": job_id, "allowance": allowance, "now": now}
    return connection.execute(_REQUEUE, params).rowcount == 1


def _cancel_waiting_job() -> Executable:
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


def _request_cancel() -> Executable:
    """Ask a running job to stop."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), STILL_PROCESSING)
        .values(cancel_requested=True, reason=bindparam("why"))
    )


def _restore_actor() -> Executable:
    """Give a job back whom and for whom it was asked for."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"))
        .values(actor=bindparam("by"), tenant=bindparam("within"))
    )


def _requeue_job() -> Executable:
    """Queue a waiting or ended job at once; an ended one gets *allowance* further attempts."""
    ended = still_in(*ENDED)
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), still_in(*WAITING, *ENDED))
        .values(
            state=literal_state(JobState.QUEUED),
            run_at=bindparam("now", type_=jobs.c.run_at.type),
            max_attempts=case(
                (ended, jobs.c.attempt + bindparam("allowance")),
                else_=jobs.c.max_attempts,
            ),
            crashes=case((ended, 0), else_=jobs.c.crashes),
            returned=0,
            finished_at=None,
            progress=None,
            reason=None,
        )
    )


_RESTORE_ACTOR = _restore_actor()
_CANCEL = _cancel_waiting_job()
_REQUEST = _request_cancel()
_REQUEUE = _requeue_job()

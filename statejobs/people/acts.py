"""What people do to one job by hand: through the machine of its record, never past it."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from statejobs.errors import StateJobsError
from statejobs.people.batches import act_on_one, job_with
from statejobs.people.cancelling import cancel_batch
from statejobs.people.deleting import delete_batch
from statejobs.people.desk import Desk
from statejobs.people.editing import checked_edit, edit_batch
from statejobs.people.retrying import (
    declared,
    load_record,
    refuse_followed,
    retry_batch,
)
from statejobs.values.job import WAITING, Job, JobState
from statejobs.work.records.stuck import find_stuck, is_stuck
from statejobs.work.records.ways import why_no_way_back


def cancel_job(desk: Desk, job_id: int, *, reason: str) -> JobState:
    """Cancel a waiting job, or ask a running one to stop; return its state now.

    Raises:
        NotFoundError: No such job.
        TransitionRefusedError: It has ended.
    """
    job = act_on_one(desk, partial(cancel_batch, reason=reason), job_id)
    return JobState.CANCELLED if job.state in WAITING else JobState.PROCESSING


def retry_job(desk: Desk, job_id: int) -> JobState:
    """Let a job go on now, through its record's machine; return its state.

    Raises:
        NotFoundError: No such job, record or trigger.
        TransitionRefusedError: It is running, or its record cannot go where it would start.
    """
    act_on_one(desk, retry_batch, job_id)
    return job_with(desk, job_id).state


def delete_job(desk: Desk, job_id: int) -> None:
    """Delete a job and its attempts.

    Raises:
        NotFoundError: No such job, or none that this app declares.
        TransitionRefusedError: It is running, or its record waits for it.
    """
    act_on_one(desk, delete_batch, job_id)


def edit_job(
    desk: Desk,
    job_id: int,
    *,
    run_at: datetime | None = None,
    priority: int | None = None,
    queue: str | None = None,
) -> JobState:
    """Change when, how urgently or where a waiting job runs; return its state.

    Raises:
        NotFoundError: No such job or queue.
        TransitionRefusedError: It is running, or has ended.
        WrongValueError: Nothing is to be changed, or a value is of the wrong kind.
    """
    edit = checked_edit(desk, run_at=run_at, priority=priority, queue=queue)
    act_on_one(desk, partial(edit_batch, edit=edit), job_id)
    return job_with(desk, job_id).state


def why_no_retry(desk: Desk, job_id: int) -> str | None:
    """Return why `retry_job` would refuse an ended or waiting job; None when it would not."""
    job = job_with(desk, job_id)
    if job.state is JobState.PROCESSING:
        return "it is running"
    try:
        refuse_followed(desk, job)
        if job.key in desk.registry.tasks:
            return None
        model, bound = declared(desk, job)
        with desk.open_session() as session:
            record = load_record(session, model, job)
            state = model.kernel.state_of(record)
            if state in bound.sources or is_stuck(bound, job, state):
                return None
            return why_no_way_back(model, bound, record)
    except StateJobsError as error:
        told = error.why or error.what
        return f"{told}; {error.fix}" if error.fix else told


def stuck_jobs(desk: Desk, *, limit: int = 100) -> list[Job]:
    """Return the jobs whose record the database let nobody move, newest first."""
    return find_stuck(desk.registry, desk.store, desk.queries, limit=limit)

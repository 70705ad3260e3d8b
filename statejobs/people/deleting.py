"""Deletes jobs, but never the one that a record waits for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from statejobs.errors import NotFoundError, StateJobsError, TransitionRefusedError
from statejobs.people.desk import Desk
from statejobs.people.giving_up import give_up_records, is_given_up
from statejobs.people.handled import Verdicts, refusal
from statejobs.people.taking import Chosen, Standing, take, take_records
from statejobs.record.model import ResourceModel
from statejobs.store.prune import delete_jobs
from statejobs.values.job import WAITING, Job, JobState
from statejobs.work.records.hidden import why_hidden
from statejobs.work.records.stuck import is_stuck

REASON = "its job was deleted"
"""Why a record has gone to its failed state."""


def delete_batch(desk: Desk, chosen: Chosen) -> Verdicts:
    """Delete the jobs of *chosen* and their attempts, with one transaction.

    A record that waits for its job goes to the failed state; without one the job stays.
    """
    verdicts = Verdicts()
    unfinished = [job for job in chosen.jobs if job.state is not JobState.COMPLETED]
    with desk.store.transaction() as connection:
        standing = take_records(
            desk, connection, unfinished, waits=chosen.waits, verdicts=verdicts
        )
        hidden = partial(why_hidden, connection)
        kept = set()
        taken = take(connection, chosen, verdicts=verdicts)
        for job in taken:
            error = _why_kept(desk, job, standing.get(job.id), hidden)
            if error is not None:
                verdicts.refuse(job, error)
                kept.add(job.id)
        going = [job for job in taken if job.id not in kept]
        waiting = [
            (job, standing[job.id])
            for job in going
            if job.state in WAITING and job.id in standing
        ]
        give_up_records(desk, connection, waiting, REASON)
        delete_jobs(connection, [job.id for job in going])
    verdicts.done += going
    return verdicts


def _why_kept(
    desk: Desk,
    job: Job,
    standing: Standing | None,
    hidden: Callable[[ResourceModel], StateJobsError | None],
) -> StateJobsError | None:
    """Return why *job* is not to be deleted; None when it may be."""
    if job.state is JobState.PROCESSING:
        return refusal("delete", job, "cancel it, and delete it once it has ended.")
    if job.state is JobState.COMPLETED:
        return None
    if job.resource is not None and job.key not in desk.registry.triggers:
        return NotFoundError(
            f"job {job.id} cannot be deleted",
            why=f"nothing in this app declares {job.key!r}: its record may wait for it",
            fix="delete it with the app that declares it",
        )
    if standing is None:
        return None
    if standing.place is None:  # it is gone, or nobody can tell
        return hidden(standing.model)
    return _why_waited_for(job, standing, standing.place[0])


def _why_waited_for(
    job: Job, standing: Standing, state: str
) -> TransitionRefusedError | None:
    bound = standing.bound
    if is_stuck(bound, job, state):
        reason = f"its record is stuck in {state!r}: retry the job."
        return _refused(job, reason)
    if bound.key not in standing.model.spec.promised_by(state):
        return None
    if job.state not in WAITING:
        reason = (
            f"its record still rests in {state!r} for it: retry it, or move the record."
        )
        return _refused(job, reason)
    if is_given_up(standing):
        return None
    reason = (
        f"its record waits in {state!r} for it, and {bound.action.name!r} has no failed state: "
        "move the record."
    )
    return _refused(job, reason)


def _refused(job: Job, reason: str) -> TransitionRefusedError:
    return TransitionRefusedError(
        "delete",
        record=f"job {job.id}",
        state=job.state,
        reasons=[reason],
        job_id=job.id,
    )

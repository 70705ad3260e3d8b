"""Cancels jobs that wait, and asks those to stop that run."""

from __future__ import annotations

from statejobs.acting import current_actor
from statejobs.people.desk import Desk
from statejobs.people.giving_up import give_up_records
from statejobs.people.handled import Verdicts, refusal
from statejobs.people.taking import Chosen, take, take_records
from statejobs.store.revise import cancel_waiting, request_cancel
from statejobs.values.job import ENDED, WAITING, JobOutcome, JobState
from statejobs.values.text import REASON_LIMIT, shown_text


def cancel_batch(desk: Desk, chosen: Chosen, *, reason: str) -> Verdicts:
    """Cancel the jobs of *chosen*, with one transaction; their records go to the failed state."""
    verdicts = Verdicts()
    reason = shown_text(reason, REASON_LIMIT, desk.redaction)
    waits = [job for job in chosen.jobs if job.state in WAITING]
    with desk.store.transaction() as connection:
        standing = take_records(
            desk, connection, waits, waits=chosen.waits, verdicts=verdicts
        )
        taken = take(connection, chosen, verdicts=verdicts)
        waiting = [job for job in taken if job.state in WAITING]
        running = [job for job in taken if job.state is JobState.PROCESSING]
        having = [(job, standing[job.id]) for job in waiting if job.id in standing]
        give_up_records(desk, connection, having, reason)
        said = _by_actor(desk, reason)
        if waiting:
            ids = [job.id for job in waiting]
            by_hand = JobOutcome.CANCELLED
            cancel_waiting(connection, ids, said, desk.now(), outcome=by_hand)
        if running:
            request_cancel(connection, [job.id for job in running], said)
    verdicts.done += waiting
    verdicts.asked += running
    for job in taken:
        if job.state in ENDED:
            verdicts.refuse(
                job, refusal("cancel", job, "there is nothing left to cancel.")
            )
    return verdicts


def _by_actor(desk: Desk, reason: str) -> str:
    """Name who asks: a job has only the actor who enqueued it, and a worker writes history."""
    actor = desk.registry.actors.text_of(current_actor())
    return f"{reason} (asked by {actor})" if actor else reason

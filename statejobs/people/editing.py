"""Changes when, how urgently and where waiting jobs run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from statejobs.errors import WrongValueError
from statejobs.people.desk import Desk
from statejobs.people.handled import Verdicts, refusal
from statejobs.people.taking import Chosen, take
from statejobs.store.revise import edit_waiting
from statejobs.values.job import WAITING, JobState
from statejobs.values.job_options import JobOptions, checked_instant, checked_priority
from statejobs.values.kinds import check_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What is to be changed of waiting jobs; None leaves it as it is."""

    run_at: datetime | None
    priority: int | None
    queue: str | None


def checked_edit(
    desk: Desk, *, run_at: datetime | None, priority: int | None, queue: str | None
) -> Edit:
    """Return what is to be changed.

    Raises:
        WrongValueError: Nothing, or a value of the wrong kind.
        NotFoundError: There is no such queue.
    """
    if run_at is None and priority is None and queue is None:
        raise WrongValueError(
            "edit() is told nothing to change", fix="give run_at=, priority= or queue="
        )
    options = JobOptions(
        run_at=checked_instant("edit", "run_at", run_at),
        priority=checked_priority("edit", "priority", priority),
    )
    if queue is not None:
        check_text("edit(queue=…)", queue, example="default")
        desk.queries.matching.names.refuse_unknown(
            queue=queue, holding=desk.queries.counts
        )
    due = None if run_at is None else options.due(desk.now())
    return Edit(run_at=due, priority=priority, queue=queue)


def edit_batch(desk: Desk, chosen: Chosen, *, edit: Edit) -> Verdicts:
    """Change the waiting jobs of *chosen*, with one transaction."""
    verdicts = Verdicts()
    with desk.store.transaction() as connection:
        taken = take(connection, chosen, verdicts=verdicts)
        waiting = [job for job in taken if job.state in WAITING]
        if waiting:
            edit_waiting(
                connection,
                [job.id for job in waiting],
                run_at=edit.run_at,
                priority=edit.priority,
                queue=edit.queue,
                now=desk.now(),
            )
    verdicts.done += waiting
    for job in taken:
        if job.state is JobState.PROCESSING:
            verdicts.refuse(
                job, refusal("edit", job, "what runs is no longer changed.")
            )
        elif job.state not in WAITING:
            verdicts.refuse(job, refusal("edit", job, "retry it instead."))
    return verdicts

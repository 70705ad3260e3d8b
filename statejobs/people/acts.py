"""What people do to jobs by hand: through the machine of their records, never past it."""

from __future__ import annotations

from typing import Any

from msgspec import structs
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from statejobs.acting import current_actor
from statejobs.errors import (
    NotFoundError,
    RecordKeptError,
    StateJobsError,
    TransitionRefusedError,
)
from statejobs.people.desk import Desk
from statejobs.record.identity import decode_identity
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.store.history import write_history
from statejobs.store.landing import land
from statejobs.store.lives import REUSED
from statejobs.store.records import lock_place
from statejobs.store.revise import (
    cancel_waiting,
    request_cancel,
    requeue,
    restore_actor,
)
from statejobs.values.graph import EdgeKind
from statejobs.values.job import ENDED, WAITING, Job, JobState
from statejobs.values.text import REASON_LIMIT, shown_text
from statejobs.work.records.stuck import find_stuck, is_stuck, repair
from statejobs.work.records.subject import RecordSubject, move_of
from statejobs.work.records.ways import fire_way_back, why_no_way_back


def cancel_job(desk: Desk, job_id: int, *, reason: str) -> JobState:
    """Cancel a waiting job, or ask a running one to stop; return its state now.

    Raises:
        NotFoundError: No such job.
        TransitionRefusedError: It has ended.
    """
    job = _job(desk, job_id)
    reason = _shown(desk, reason)
    if job.state in ENDED:
        raise _job_refused("cancel", job, "there is nothing left to cancel.")
    with desk.store.transaction() as connection:
        if job.state in WAITING:
            _give_up_record(desk, connection, job, reason)
            now = desk.now()
            if cancel_waiting(connection, job_id, _by_actor(reason), now):
                return JobState.CANCELLED
        if request_cancel(connection, job_id, _by_actor(reason)):
            return JobState.PROCESSING
    raise StateJobsError(
        f"job {job_id} ended a moment ago",
        fix="look at it again",
    )


def retry_job(desk: Desk, job_id: int) -> JobState:
    """Let a job go on now, through its record's machine; return its state.

    Raises:
        NotFoundError: No such job, record or trigger.
        TransitionRefusedError: It is running, or its record cannot go where it would start.
    """
    job = _job(desk, job_id)
    if job.state is JobState.PROCESSING:
        raise _job_refused("retry", job, "wait for its end, or cancel it.")
    task = desk.registry.tasks.get(job.key)
    if task is not None:
        return _requeue(desk, job, task.spec.options.max_attempts)
    model, bound = _declared(desk, job)
    with desk.open_session() as session:
        record = _load(session, model, job)
        state = model.kernel.state_of(record)
        if state not in bound.sources and not is_stuck(bound, job, state):
            fire_way_back(model, bound, record)
            session.flush()
            # Whoever retries is in the history; the work still is for whom it was asked.
            restore_actor(session.connection(), job)
            session.commit()
            return _job(desk, job_id).state
    if state in bound.sources:
        return _requeue(desk, job, bound.options.max_attempts)
    repair(desk.store, desk.sources, model, bound, job)
    return _job(desk, job_id).state


def why_no_retry(desk: Desk, job_id: int) -> str | None:
    """Return why `retry_job` would refuse an ended or waiting job; None when it would not."""
    job = _job(desk, job_id)
    if job.state is JobState.PROCESSING:
        return "it is running"
    if job.key in desk.registry.tasks:
        return None
    try:
        model, bound = _declared(desk, job)
        with desk.open_session() as session:
            record = _load(session, model, job)
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


def _requeue(desk: Desk, job: Job, allowance: int) -> JobState:
    try:
        with desk.store.transaction() as connection:
            now = desk.now()
            requeue(connection, job.id, allowance, now)
    except IntegrityError:
        served = f"{job.resource} {job.record_id}"
        raise StateJobsError(
            _no_go(job),
            why=f"a newer job serves {served}",
            fix=f"see: statejobs record show {served}",
        ) from None
    return _job(desk, job.id).state


def _give_up_record(desk: Desk, connection: Any, job: Job, reason: str) -> None:
    """Move the record of a waiting job to the failed state, when there is one."""
    if job.key not in desk.registry.triggers:
        return  # a task's, or one that nobody can run any more: cancellable as well
    model, bound = _declared(desk, job)
    if bound.failed is None:
        return
    identity = decode_identity(model.mapper, job.record_id or "")
    found = lock_place(connection, model.records, identity)
    if found is None or found[0] not in bound.sources:
        return
    subject = RecordSubject(
        model=model,
        bound=bound,
        identity=identity,
        source=found[0],
        state=found[0],
        version=found[1],
    )
    move = move_of(
        job, subject, EdgeKind.DISCARD, desk.now(), attempt=None, reason=reason
    )
    if not land(connection, move):  # nobody else can: it is locked
        raise RecordKeptError
    if move.history is not None:
        write_history(
            connection, [structs.replace(move.history, actor=current_actor())]
        )


def _shown(desk: Desk, reason: str) -> str:
    """Return *reason* as history keeps it."""
    return shown_text(reason, REASON_LIMIT, desk.store.redaction)


def _job(desk: Desk, job_id: int) -> Job:
    job = desk.queries.job(job_id)
    if job is None:
        raise NotFoundError(
            f"no job {job_id}",
            fix="list them with: statejobs job list",
        )
    return job


def _declared(desk: Desk, job: Job) -> tuple[ResourceModel, BoundTrigger]:
    found = desk.registry.triggers.get(job.key)
    if found is None:
        raise NotFoundError(
            f"job {job.id} runs {job.key!r}, which no resource and no domain of "
            "this app declares",
            fix="was the trigger or task renamed without an alias?",
        )
    return found


def _by_actor(reason: str) -> str:
    """Name who asks: a job has only the actor who enqueued it, and a worker writes history."""
    actor = current_actor()
    return f"{reason} (asked by {actor})" if actor else reason


def _job_refused(name: str, job: Job, reason: str) -> TransitionRefusedError:
    return TransitionRefusedError(
        name,
        record=f"job {job.id}",
        state=job.state,
        reasons=[f"it is {job.state}: {reason}"],
        job_id=job.id,
    )


def _load(session: Session, model: ResourceModel, job: Job) -> Any:
    if job.dedupe_key is None:
        raise NotFoundError(
            _no_go(job), why=REUSED, fix="start the work anew, on that one"
        )
    identity = decode_identity(model.mapper, job.record_id or "")
    try:
        record: Any = session.get(model.cls, identity)
    except LookupError as error:  # in a state that this code does not know
        raise StateJobsError(
            _no_go(job),
            why=f"its record, {model.name} {job.record_id}, cannot be read: {error}",
            fix="deploy the code that knows its state, or mend its row",
        ) from error
    if record is None:
        raise NotFoundError(
            _no_go(job), why=f"its record, {model.name} {job.record_id}, is gone"
        )
    return record


def _no_go(job: Job) -> str:
    return f"job {job.id} cannot go on"

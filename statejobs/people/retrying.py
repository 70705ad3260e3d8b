"""Lets jobs go on, through the machines of their records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from statejobs.errors import (
    NotFoundError,
    StateJobsError,
    TransitionRefusedError,
)
from statejobs.people.desk import Desk
from statejobs.people.handled import Verdicts, refusal
from statejobs.people.retaking import (
    LostKey,
    is_followed,
    lost_key,
    refuse_held,
    retake,
)
from statejobs.people.taking import Chosen, Standing, take, take_records
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.store.lives import REUSED
from statejobs.store.look import find_holder
from statejobs.store.revise import requeue, restore_actors
from statejobs.values.job import Job, JobState
from statejobs.work.records.load import load_records
from statejobs.work.records.stuck import is_stuck, repair
from statejobs.work.records.ways import fire_way_back, why_no_way_back


@dataclass(slots=True)
class _Ways:
    """How each job of a batch goes on."""

    queued: dict[int, list[Job]] = field(default_factory=dict)
    """Those that need no transition → by how many attempts they get."""
    keyless: list[tuple[Job, LostKey, int]] = field(default_factory=list)
    """Those of tasks that want the key back which they lost, and how many attempts they get."""
    back: list[tuple[Job, Standing]] = field(default_factory=list)
    """By a transition of their records."""
    stuck: list[tuple[Job, Standing]] = field(default_factory=list)


def retry_batch(desk: Desk, chosen: Chosen) -> Verdicts:
    """Let the jobs of *chosen* go on now; all but those that are stuck with one transaction."""
    verdicts = Verdicts()
    with desk.open_session() as session:
        connection = session.connection()
        standing = take_records(
            desk, connection, chosen.jobs, waits=chosen.waits, verdicts=verdicts
        )
        ways = _Ways()
        for job in take(connection, chosen, verdicts=verdicts):
            try:
                _sort(desk, job, standing.get(job.id), ways)
            except StateJobsError as error:
                verdicts.refuse(job, error)
        for allowance, jobs in ways.queued.items():
            _requeue(desk, connection, jobs, allowance)
            verdicts.done += jobs
        for job, lost, allowance in ways.keyless:
            is_alone = len(chosen.jobs) == 1
            with _refusing(verdicts, job, lost, is_alone=is_alone):
                retake(connection, job, lost, desk.now())
                requeue(connection, [job.id], allowance, desk.now())
                verdicts.done.append(job)
        fired = _fire(session, ways.back, verdicts)
        session.flush()
        if fired:
            # Whoever retries is in the history; the work still is for whom it was asked.
            restore_actors(session.connection(), fired)
            # Its way may run the trigger later; whoever retries a job wants it now.
            requeue(session.connection(), [job.id for job in fired], 0, desk.now())
        session.commit()
    verdicts.done += fired
    for job, where in ways.stuck:
        _repair(desk, job, where, verdicts)
    return verdicts


def declared(desk: Desk, job: Job) -> tuple[ResourceModel, BoundTrigger]:
    """Return the resource of *job*, and its trigger.

    Raises:
        NotFoundError: Nothing of this app has its key.
    """
    found = desk.registry.triggers.get(job.key)
    if found is None:
        raise NotFoundError(
            f"job {job.id} runs {job.key!r}, which no resource and no domain of "
            "this app declares",
            fix="was the trigger or task renamed without an alias?",
        )
    return found


def refuse_followed(desk: Desk, job: Job) -> None:
    """Refuse a job whose key another has: one that completed, or that lost it when it gave up.

    Raises:
        StateJobsError: Another has it.
    """
    task = desk.registry.tasks.get(job.key)
    lost = None if task is None else lost_key(task, job)
    if lost is not None:
        with desk.store.transaction() as connection:
            refuse_held(connection, job, lost, desk.now())
        return
    if job.state is not JobState.COMPLETED or job.dedupe_key is None:
        return  # all others hold theirs, or need none
    given = {"dedupe_key": job.dedupe_key}
    with desk.store.transaction() as connection:
        holder = connection.scalar(find_holder(), given)
    if holder not in {None, job.id}:
        raise _is_followed(job)


def load_record(session: Session, model: ResourceModel, job: Job) -> Any:
    """Return the record of *job*.

    Raises:
        NotFoundError: It is gone.
        StateJobsError: It cannot be read.
    """
    _refuse_parted(job)
    (record,) = _loaded(session, model, [job])
    if record is None:
        raise _gone(model, job)
    return record


def _sort(desk: Desk, job: Job, standing: Standing | None, ways: _Ways) -> None:
    """Note how *job* goes on.

    Raises:
        StateJobsError: It does not.
    """
    if job.state is JobState.PROCESSING:
        raise refusal("retry", job, "wait for its end, or cancel it.")
    task = desk.registry.tasks.get(job.key)
    if task is not None:
        allowance = task.spec.options.max_attempts
        lost = lost_key(task, job)
        if lost is None:
            ways.queued.setdefault(allowance, []).append(job)
        else:
            ways.keyless.append((job, lost, allowance))
        return
    model, bound = declared(desk, job)
    _refuse_parted(job)
    if standing is None or standing.place is None:
        raise _gone(model, job)
    state = standing.place[0]
    if state in bound.sources:
        ways.queued.setdefault(bound.options.max_attempts, []).append(job)
    elif is_stuck(bound, job, state):
        ways.stuck.append((job, standing))
    else:
        ways.back.append((job, standing))


def _fire(
    session: Session, back: Sequence[tuple[Job, Standing]], verdicts: Verdicts
) -> list[Job]:
    """Fire the way back of each record; return the jobs that go on with it."""
    by_model: dict[ResourceModel, list[tuple[Job, Standing]]] = {}
    for job, standing in back:
        by_model.setdefault(standing.model, []).append((job, standing))
    fired = []
    for model, own in by_model.items():
        records = _loaded(session, model, [job for job, _ in own])
        for (job, standing), record in zip(own, records, strict=True):
            if record is None:
                verdicts.refuse(job, _gone(model, job))
                continue
            try:
                fire_way_back(model, standing.bound, record)
            except TransitionRefusedError as error:
                if why_no_way_back(model, standing.bound, record) is None:
                    raise  # a body has run, and may have changed something
                verdicts.refuse(job, error)
            else:
                fired.append(job)
    return fired


def _loaded(
    session: Session, model: ResourceModel, jobs: Sequence[Job]
) -> list[Any | None]:
    try:
        return load_records(session, model, [job.record_id or "" for job in jobs])
    except LookupError as error:  # one is in a state that this code does not know
        (job, *others) = jobs
        if others:
            raise
        raise StateJobsError(
            _no_go(job),
            why=f"its record, {model.name} {job.record_id}, cannot be read: {error}",
            fix="deploy the code that knows its state, or mend its row",
        ) from error


def _requeue(
    desk: Desk, connection: Connection, jobs: Sequence[Job], allowance: int
) -> None:
    try:
        requeue(connection, [job.id for job in jobs], allowance, desk.now())
    except IntegrityError:
        (job, *others) = jobs
        if others:
            raise
        raise _is_followed(job) from None


@contextmanager
def _refusing(
    verdicts: Verdicts, job: Job, lost: LostKey, *, is_alone: bool
) -> Iterator[None]:
    """Note that *job* does not go on while another holds its key.

    Raises:
        StateJobsError: Another got it meanwhile, and the transaction is of no use any more.
        IntegrityError: The same; each job of several is tried again by itself.
    """
    try:
        yield
    except StateJobsError as error:
        verdicts.refuse(replace(job, dedupe_key=lost.key), error)
    except IntegrityError:
        if is_alone:
            raise is_followed(job, lost.key) from None
        raise


def _is_followed(job: Job) -> StateJobsError:
    """Return why a job does not go on whose key another has."""
    if job.record_id is None:
        return is_followed(job, job.dedupe_key)
    served = f"{job.resource} {job.record_id}"
    return StateJobsError(
        _no_go(job),
        why=f"a newer job serves {served}",
        fix=f"see: statejobs record show {served}",
    )


def _repair(desk: Desk, job: Job, standing: Standing, verdicts: Verdicts) -> None:
    try:
        repair(desk.store, desk.sources, standing.model, standing.bound, job)
    except StateJobsError as error:
        verdicts.refuse(job, error)
    else:
        verdicts.done.append(job)


def _refuse_parted(job: Job) -> None:
    if job.dedupe_key is None:
        raise NotFoundError(
            _no_go(job), why=REUSED, fix="start the work anew, on that one"
        )


def _gone(model: ResourceModel, job: Job) -> NotFoundError:
    return NotFoundError(
        _no_go(job), why=f"its record, {model.name} {job.record_id}, is gone"
    )


def _no_go(job: Job) -> str:
    return f"job {job.id} cannot go on"

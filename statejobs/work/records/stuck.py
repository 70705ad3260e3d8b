"""Stuck records: left in `during` by a job that was given up, since nobody could move them.

The one exception to "record and job agree". They are listed for people, who repair them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from msgspec import structs
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from statejobs.acting import current_actor
from statejobs.declare.registry import Registry
from statejobs.errors import NotFoundError, TransitionRefusedError
from statejobs.record.identity import decode_identity
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.store.expired import find_running
from statejobs.store.faults import Fault, fault_of, is_away, words_of
from statejobs.store.history import write_history
from statejobs.store.landing import land
from statejobs.store.queries import JobQueries
from statejobs.store.record_rows import find_in_states
from statejobs.store.records import Identity, lock_place
from statejobs.store.revise import requeue
from statejobs.store.store import Store
from statejobs.values.clock import Sources
from statejobs.values.graph import EdgeKind
from statejobs.values.job import Job, JobState
from statejobs.work.records.subject import RecordSubject, move_of

REPAIRED = "rescue"
"""Name in history of the move by which a stuck record returns to its source."""


_KEPT = (
    "the database still does not let it go back to {source!r}: it took the move and left the "
    "record where it was. Mend the trigger that keeps it."
)
_MOVED = "it was moved a moment ago; look at it again."


def is_stuck(bound: BoundTrigger, job: Job, state: str) -> bool:
    """Return whether a record in *state* was left there by *job*, which has ended."""
    gave_up = job.state in {JobState.DISCARDED, JobState.CANCELLED}
    is_its_own = job.dedupe_key is not None
    return gave_up and is_its_own and bound.during is not None and state == bound.during


def find_stuck(
    registry: Registry, store: Store, queries: JobQueries, *, limit: int
) -> list[Job]:
    """Return the newest jobs that were given up, and whose record still is where they ran."""
    by_key: dict[str, list[Job]] = {}
    for job in queries.stuck(limit=limit):
        if job.dedupe_key is None:
            continue  # another record has its key
        by_key.setdefault(job.key, []).append(job)
    found: list[Job] = []
    for key, jobs in by_key.items():
        declared = registry.triggers.get(key)
        if declared is not None:
            found += _stuck_as_far_as_known(store, *declared, jobs)
    return sorted(found, key=lambda job: job.id, reverse=True)


def repair(
    store: Store, sources: Sources, model: ResourceModel, bound: BoundTrigger, job: Job
) -> None:
    """Move the stuck record of *job* back to where the job found it, and queue the job again.

    Raises:
        TransitionRefusedError: It is no longer stuck, or still cannot be moved; says why.
    """
    identity = decode_identity(model.mapper, job.record_id or "")
    source = _source_of(model, bound, job)
    now = sources.clock.now()
    try:
        with store.transaction() as connection:
            version = _lock_stuck(connection, model, bound, job, identity)
            subject = RecordSubject(
                model=model,
                bound=bound,
                identity=identity,
                source=source,
                state=bound.during or source,
                version=version,
            )
            move = move_of(
                job, subject, EdgeKind.RETURN, now, attempt=None, reason=job.reason
            )
            if not land(connection, move):
                # it is locked
                raise _refusal(model, bound, job, _KEPT.format(source=source))
            if move.history is not None:
                actor = model.actors.text_of(current_actor())
                told = structs.replace(move.history, name=REPAIRED, actor=actor)
                write_history(connection, [told])
            requeue(connection, [job.id], bound.options.max_attempts, now)
    except SQLAlchemyError as error:
        if is_away(error):
            raise
        words = words_of(error)
        raise _refusal(
            model,
            bound,
            job,
            f"the database still does not let it go back to {source!r}: {words}.",
        ) from error


def _source_of(model: ResourceModel, bound: BoundTrigger, job: Job) -> str:
    """Return the state in which *job* found its record; none is guessed."""
    source = job.record_source
    if source is None:
        raise _refusal(
            model, bound, job, "the state in which its job found it is not known."
        )
    if source not in bound.sources:
        known = ", ".join(repr(state) for state in bound.sources)
        raise _refusal(
            model,
            bound,
            job,
            f"its job found it in {source!r}, from which {bound.action.name!r} no longer starts "
            f"(but from {known}). Declare that source again, or move the record with "
            "override_state().",
        )
    return source


def _lock_stuck(
    connection: Connection,
    model: ResourceModel,
    bound: BoundTrigger,
    job: Job,
    identity: Identity,
) -> int:
    """Lock the record of *job*; return its version."""
    found = lock_place(connection, model.records, identity)
    if found is None or found[0] != bound.during:
        raise _refusal(model, bound, job, _MOVED)
    record_id = job.record_id or ""
    others = [
        other for other in model.triggers.values() if other.during == bound.during
    ]
    keys = [key for other in others for key in other.dedupe_keys(record_id)]
    running = find_running(connection, keys)
    if running is not None:
        raise _refusal(
            model, bound, job, f"job {running} runs on it: wait for its end."
        )
    return found[1]


def _refusal(
    model: ResourceModel, bound: BoundTrigger, job: Job, reason: str
) -> TransitionRefusedError:
    return TransitionRefusedError(
        "retry",
        record=f"{model.name} {job.record_id}",
        state=bound.during or "",
        reasons=[reason],
    )


def _stuck_as_far_as_known(
    store: Store, model: ResourceModel, bound: BoundTrigger, jobs: Sequence[Job]
) -> list[Job]:
    """Return those of *jobs* that are stuck: all of them when their table is not there to ask."""
    try:
        with store.single() as connection:
            return _still_stuck(connection, model, bound, jobs)
    except SQLAlchemyError as error:
        if fault_of(error) is not Fault.CODE:
            raise
        return list(jobs)


def _still_stuck(
    connection: Connection,
    model: ResourceModel,
    bound: BoundTrigger,
    jobs: Sequence[Job],
) -> list[Job]:
    by_key: dict[Identity, Job] = {}
    for job in jobs:
        with suppress(NotFoundError):
            # the key has another type by now: there is no such record
            by_key[decode_identity(model.mapper, job.record_id or "")] = job
    if bound.during is None or not by_key:
        return []
    found = find_in_states(connection, model.records, list(by_key), [bound.during])
    return [job for identity, job in by_key.items() if identity in found]

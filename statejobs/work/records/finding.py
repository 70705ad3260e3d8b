"""Finds the record of a job that nobody runs: its worker is gone, or it could not be claimed."""

from __future__ import annotations

from sqlalchemy import Connection

from statejobs.declare.registry import Registry
from statejobs.record.model import ResourceModel
from statejobs.store.records import Identity, lock_place, read_place
from statejobs.values.job import Job
from statejobs.work.records.claim import identities_of
from statejobs.work.records.hidden import find_unlockable, why_hidden
from statejobs.work.records.subject import RecordSubject

NO_VERSION = -1
"""No record has it: landing then finds that someone else moved it."""


def find_left(
    registry: Registry, connection: Connection, job: Job
) -> RecordSubject | None:
    """Lock the record of a job whose worker is gone; None when someone holds it."""
    model, bound = registry.triggers[job.key]
    ((_, identity),) = identities_of(model, [job])
    found = None
    if identity is not None:
        found = lock_place(connection, model.records, identity, skip_locked=True)
        if found is None and _is_held(connection, model, identity):
            return None
    source = job.record_source
    if source is None:
        raise LookupError("the state in which the job found its record is not known")
    is_where_it_was = found is not None and found[0] == (bound.during or source)
    return RecordSubject(
        model=model,
        bound=bound,
        identity=identity or (),
        source=source,
        state=bound.during or source,
        version=found[1] if found is not None and is_where_it_was else NO_VERSION,
    )


def find_at_rest(registry: Registry, connection: Connection, job: Job) -> RecordSubject:
    """Lock the record of a job that could not be claimed."""
    model, bound = registry.triggers[job.key]
    ((_, identity),) = identities_of(model, [job])
    found = None
    if identity is not None:
        found = lock_place(connection, model.records, identity)
        if found is None:
            refuse_hidden(connection, model)
    state, version = found if found is not None else ("", NO_VERSION)
    rests = state in bound.sources
    source = state if rests else bound.sources[0]
    return RecordSubject(
        model=model,
        bound=bound,
        identity=identity or (),
        source=source,
        state=source,
        version=version if rests else NO_VERSION,
    )


def refuse_hidden(connection: Connection, model: ResourceModel) -> None:
    """Say so when a record that was not found may be there for others."""
    if (reason := why_hidden(connection, model)) is not None:
        raise reason


def _is_held(connection: Connection, model: ResourceModel, identity: Identity) -> bool:
    """Return whether somebody holds a record that could not be locked; it may be gone instead.

    Raises:
        RecordHiddenError: Nobody can tell.
    """
    is_seen = read_place(connection, model.records, identity) is not None
    reason = why_hidden(connection, model)
    if reason is not None and (
        not is_seen or find_unlockable(connection, model, [identity])
    ):
        raise reason
    return is_seen

"""Records of the jobs of a claim: lock, load and move a batch, and say why others do not run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from statejobs.errors import RecordHiddenError, RecordKeptError
from statejobs.record.candidates import candidates_of
from statejobs.record.identity import decode_identities, encode_identity
from statejobs.record.model import ResourceModel
from statejobs.record.neighbours import neighbours_of
from statejobs.record.specs import BoundTrigger
from statejobs.store.ago import ago_at
from statejobs.store.candidates import Candidates
from statejobs.store.claim_records import (
    listed,
    lock_waiting,
    move_to,
    read_picked,
)
from statejobs.store.history import write_history
from statejobs.store.hold import find_running_keys
from statejobs.store.record_rows import read_rows
from statejobs.store.records import Identity
from statejobs.values.job import Job
from statejobs.work.records.hidden import find_unlockable, why_hidden
from statejobs.work.records.subject import RecordSubject, history_of_claim

NO_LONGER = "its record no longer matches where="
"""Why a job that a tick made does not run."""


@dataclass(slots=True, kw_only=True)
class LockedRecords:
    """What became of a batch of records."""

    found: dict[Identity, tuple[Any, str, int]] = field(default_factory=dict)
    """Key → object, state, version; locked."""
    busy: set[Identity] = field(default_factory=set)
    stale: dict[Identity, str] = field(default_factory=dict)
    """Key → why it no longer needs its job."""
    misfits: dict[Identity, str] = field(default_factory=dict)
    """Key → what of it this code does not know."""
    hidden: dict[Identity, RecordHiddenError] = field(default_factory=dict)
    """Key → what may hide it from the role of this worker."""


def lock_records(
    connection: Connection,
    model: ResourceModel,
    bound: BoundTrigger,
    identities: Sequence[Identity],
    *,
    started: Mapping[str, Collection[Identity]],
    picked_at: datetime | None = None,
) -> LockedRecords:
    """Load and lock those of *identities* that wait for their job, waiting for nobody.

    Args:
        connection: With the transaction of the claim.
        model: Whose records they are.
        bound: Whose jobs.
        identities: Their keys.
        started: The records of the jobs that this claim has taken already, by key.
        picked_at: The time of the claim, where ticks have picked them: they must match still.
    """
    if picked_at is None or bound.schedule is None:
        return _lock(connection, model, bound, identities, started)
    picked = candidates_of(model, bound)
    with ago_at(picked_at):
        return _lock(connection, model, bound, identities, started, picked=picked)


def move_to_during(
    connection: Connection,
    model: ResourceModel,
    bound: BoundTrigger,
    locked: LockedRecords,
    now: datetime,
) -> None:
    """Move locked records to the state in which their job runs, with one statement.

    Raises:
        RecordKeptError: The database left one where it was.
    """
    if bound.during is None or not locked.found:
        return
    move = move_to(model.records, bound.during, connection.dialect)
    leaving = [i for i, (_, state, _) in locked.found.items() if state != bound.during]
    staying = [i for i, (_, state, _) in locked.found.items() if state == bound.during]
    if leaving and move.execute(connection, leaving, now) != len(leaving):
        raise RecordKeptError
    if staying:  # a database may leave out what changes nothing
        move.execute(connection, staying, now)
    for identity in leaving:
        record, state, version = locked.found[identity]
        set_committed_value(record, model.attribute, model.members[bound.during])
        set_committed_value(record, "state_version", version + 1)
        set_committed_value(record, "state_changed_at", now)
        locked.found[identity] = (record, state, version + 1)


def write_claims(
    connection: Connection, started: Sequence[tuple[Job, RecordSubject]], now: datetime
) -> None:
    """Write the history of records that a claim moved, with one INSERT."""
    rows = [
        history_of_claim(job, subject, now)
        for job, subject in started
        if subject.bound.during is not None and subject.model.has_history
    ]
    if rows:
        write_history(connection, rows)


def identities_of(
    model: ResourceModel, jobs: Sequence[Job]
) -> Iterator[tuple[Job, Identity | None]]:
    """Return the key of each job's record; None when the stored text is not one."""
    found = decode_identities(model.mapper, [job.record_id or "" for job in jobs])
    return zip(jobs, found, strict=True)


def _lock(
    connection: Connection,
    model: ResourceModel,
    bound: BoundTrigger,
    identities: Sequence[Identity],
    started: Mapping[str, Collection[Identity]],
    *,
    picked: Candidates | None = None,
) -> LockedRecords:
    locked = LockedRecords()
    neighbours = neighbours_of(model, bound)
    query = lock_waiting(
        model.cls,
        model.records,
        tuple(bound.sources),
        connection.dialect.name,
        has_eager=bool(model.eager_relations),
        picked=picked,
    )
    given = listed(model.records, identities)
    with Session(connection, autoflush=False, expire_on_commit=False) as session:
        for record in session.scalars(query, given).unique():
            identity = tuple(model.mapper.primary_key_from_instance(record))
            state = model.kernel.state_of(record)
            locked.found[identity] = (record, state, record.state_version)
        session.expunge_all()
    missing = [identity for identity in identities if identity not in locked.found]
    if missing:
        _explain_missing(connection, model, bound, missing, locked, picked=picked)
    if neighbours.resting and locked.found:
        _leave_to_others(connection, neighbours.resting, locked, started)
    return locked


def _leave_to_others(
    connection: Connection,
    resting: Sequence[BoundTrigger],
    locked: LockedRecords,
    started: Mapping[str, Collection[Identity]],
) -> None:
    """Call those records busy that jobs work on which need them where they are.

    The records are locked: whoever claims one of those jobs waits for this claim, or comes before.
    """
    theirs = {
        key: identity
        for identity in locked.found
        for other in resting
        for key in other.dedupe_keys(encode_identity(identity))
    }
    busy = {theirs[key] for key in find_running_keys(connection, [*theirs])}
    for other in resting:
        busy |= locked.found.keys() & {*started.get(other.key, ())}
    for identity in busy:
        del locked.found[identity]
    locked.busy |= busy


def _explain_missing(
    connection: Connection,
    model: ResourceModel,
    bound: BoundTrigger,
    missing: Sequence[Identity],
    locked: LockedRecords,
    *,
    picked: Candidates | None,
) -> None:
    """Tell records that are busy from those that moved on, with one unlocked SELECT.

    Busy is what someone holds, and what another action works on that may bring it back.
    """
    records = model.records
    if picked is None:
        rows = read_rows(connection, records, missing, records.stored_state)
    else:
        rows = read_picked(connection, picked, missing)
    for identity in missing:
        state, *matches = rows.get(identity, (None,))
        if state is None:
            locked.stale[identity] = "its record is gone"
        elif state in bound.sources and not all(matches):
            locked.stale[identity] = NO_LONGER
        elif state in bound.sources or state in neighbours_of(model, bound).passing:
            locked.busy.add(identity)
        elif state not in model.members:
            locked.misfits[identity] = (
                f"its record is in {state!r}, which this code does not know"
            )
        else:
            waits = " or ".join(repr(source) for source in bound.sources)
            locked.stale[identity] = (
                f"its record is in {state!r}, and {bound.action.name!r} starts from {waits}"
            )
    _tell_what_is_hidden(connection, model, locked, gone={*missing} - rows.keys())


def _tell_what_is_hidden(
    connection: Connection,
    model: ResourceModel,
    locked: LockedRecords,
    *,
    gone: set[Identity],
) -> None:
    """Take out of *locked* what only looks busy or gone, since the database hides it."""
    reason = why_hidden(connection, model) if gone or locked.busy else None
    if reason is None:
        return
    unlockable = (
        find_unlockable(connection, model, locked.busy) if locked.busy else set()
    )
    for identity in gone:
        del locked.stale[identity]
    locked.busy -= unlockable
    locked.hidden |= dict.fromkeys(gone | unlockable, reason)

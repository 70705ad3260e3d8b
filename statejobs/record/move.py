"""A record with the steps that one flush writes, and what is said when it could not be moved.

Records move by compare-and-set: whoever finds another state or version has lost the race.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from statejobs.errors import RecordKeptError, StaleTransitionError
from statejobs.record.ledger import Ledger, Step
from statejobs.record.model import ResourceModel
from statejobs.store.faults import Fault, fault_of
from statejobs.store.record_rows import read_rows
from statejobs.store.records import RecordMove


@dataclass(slots=True, kw_only=True, eq=False)
class Moved:
    """A record with the steps that one flush writes."""

    model: ResourceModel
    record: Any
    ledger: Ledger
    connection: Connection
    """Where the record, its history and its jobs are written."""
    steps: tuple[Step, ...]
    versions: tuple[int, ...]
    """The version after each step: leaving a state counts, and creation is version 0."""
    move: RecordMove
    """From where it was before the flush; a new one was nowhere, and its key is not known yet."""
    record_id: str
    """The primary key as text; of a new one empty until it is inserted."""
    is_new: bool
    """Whether the flush inserts it."""
    awaits_number: bool
    """Whether the database was to count up the key of a new record when the flush began."""
    state: str
    """Where the record rests after the flush; `DELETED` when the flush deletes it."""


@dataclass(slots=True)
class Plan:
    """What one flush writes for the records that moved."""

    now: datetime
    job: Mapping[str, int | None]
    """The job whose action has the session, if one has, as history names it."""
    moved: list[Moved] = field(default_factory=list)


def refuse_conflict(error: DBAPIError, first: Moved) -> None:
    """Let a transaction that cannot go on beside another lose the race for *first*.

    Raises:
        StaleTransitionError: The database ended a deadlock, or could not serialize.
    """
    if fault_of(error) is Fault.CONFLICT:
        raise _stale(first, found=None, known=False) from error


def why_not_moved(moved: Sequence[Moved]) -> StaleTransitionError | RecordKeptError:
    """Find the record that did not move: someone was first, or the database keeps it."""
    model = moved[0].model
    found = {m: _place(m) for m in moved}
    for m, place in found.items():
        is_moved = place is not None and place[:2] == (
            m.move.becomes,
            m.move.next_version,
        )
        if place is not None and is_moved and m.move.moved_at in {None, place[2]}:
            continue  # or kept, if it was to stay where it is
        is_kept = place is not None and place[:2] == (m.move.was, m.move.version)
        if is_kept:
            return RecordKeptError(model.label(m.record))
        return _stale(m, found=place and place[0])
    stay = [
        m
        for m in moved
        if (m.move.becomes, m.move.next_version) == (m.move.was, m.move.version)
    ]
    if stay:
        names = [model.label(m.record) for m in stay]
        return RecordKeptError(
            names[0] if len(names) == 1 else f"one of {', '.join(names)}"
        )
    # the same move, at the same time
    return _stale(moved[0], found=moved[0].move.becomes)


def _place(moved: Moved) -> tuple[str, int, datetime] | None:
    """Return state, version and time of a record as stored."""
    records = moved.model.records
    columns = (records.stored_state, records.version, records.changed_at)
    rows = read_rows(moved.connection, records, [moved.move.identity], *columns)
    return next(((state, version, at) for state, version, at in rows.values()), None)


def _stale(
    moved: Moved, *, found: str | None, known: bool = True
) -> StaleTransitionError:
    step = moved.steps[0]
    return StaleTransitionError(
        step.name,
        record=moved.model.label(moved.record),
        expected=step.source or "",
        found=found if known else "a state that another transaction is changing",
    )

"""Moves records by compare-and-set: whoever finds another state or version has lost the race."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import accumulate
from typing import Any

from sqlalchemy import Connection, CursorResult, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.attributes import set_committed_value

from statejobs.errors import RecordKeptError, StaleTransitionError
from statejobs.record.ledger import Step
from statejobs.record.model import ResourceModel
from statejobs.store.faults import Fault, fault_of
from statejobs.store.lock_order import key_order
from statejobs.store.records import move_each, move_parameters
from statejobs.values.graph import DELETED


@dataclass(frozen=True, kw_only=True, eq=False)
class Moved:
    """A record with the steps that one flush writes."""

    model: ResourceModel
    record: Any
    steps: tuple[Step, ...]
    version: int | None
    """The version in the database before the flush; None for a new record."""
    awaits_number: bool = False
    """Whether the database was to count up the key of a new record when the flush began."""

    @property
    def is_new(self) -> bool:
        """Whether the flush inserts it."""
        return self.version is None

    @property
    def identity(self) -> tuple[Any, ...]:
        """The primary key, in the order of its columns."""
        return tuple(self.model.mapper.primary_key_from_instance(self.record))

    @cached_property
    def record_id(self) -> str:
        """The primary key as text; known once a new record is inserted."""
        return self.model.record_id(self.record)

    @property
    def state(self) -> str:
        """Where the record rests after the flush."""
        return self.steps[-1].target

    @property
    def is_deleted(self) -> bool:
        """Whether the flush deletes it, after its last step."""
        return self.state == DELETED

    @property
    def written(self) -> str:
        """The state that the flush writes: of a record that it deletes, the last one."""
        return (self.steps[-1].source or "") if self.is_deleted else self.state

    @cached_property
    def versions(self) -> tuple[int, ...]:
        """The version after each step: leaving a state counts, and creation is version 0."""
        before = -1 if self.version is None else self.version
        _, *after = accumulate((step.leaves for step in self.steps), initial=before)
        return tuple(after)

    @property
    def last_version(self) -> int:
        """Version after the last step."""
        return self.versions[-1]

    @property
    def left_at(self) -> datetime | None:
        """When it last left a state; None when it stays where it is."""
        return next((step.at for step in reversed(self.steps) if step.leaves), None)


def move_records(
    connection: Connection, moved: Sequence[Moved]
) -> tuple[Sequence[Moved], CursorResult[Any]]:
    """Move *moved*, all of one table, and tell the ORM that their state is in the database.

    Returns:
        The records in the order in which they were moved, and the result of the UPDATE.

    Raises:
        StaleTransitionError: Another transaction moved one of them first.
        RecordKeptError: A trigger of the database left out the move, without an error.
    """
    model = moved[0].model
    order = key_order(model.mapper.primary_key)
    ordered = sorted(moved, key=lambda m: order(m.identity))
    rows = [_parameters(m) for m in ordered]
    with conflicts_are_lost(ordered[0]):
        found = connection.execute(move_each(model.records), rows if len(rows) > 1 else rows[0])
    if found.rowcount != len(ordered):
        raise _why_not(connection, model, ordered)
    for m in ordered:
        set_committed_value(m.record, m.model.attribute, m.model.members[m.written])
        set_committed_value(m.record, "state_version", m.last_version)
        if m.left_at is not None:
            set_committed_value(m.record, "state_changed_at", m.left_at)
    return ordered, found


@contextmanager
def conflicts_are_lost(first: Moved) -> Iterator[None]:
    """Let a transaction that cannot go on beside another lose the race for *first*.

    Raises:
        StaleTransitionError: The database ended a deadlock, or could not serialize.
    """
    try:
        yield
    except DBAPIError as error:
        if fault_of(error) is Fault.CONFLICT:
            raise _stale(first, found=None, known=False) from error
        raise


def _parameters(moved: Moved) -> dict[str, Any]:
    return move_parameters(
        moved.model.records, moved.identity,
        was=moved.steps[0].source, version=moved.version, becomes=moved.written,
        next_version=moved.last_version, moved_at=moved.left_at,
    )  # fmt: skip


def _why_not(
    connection: Connection, model: ResourceModel, moved: Sequence[Moved]
) -> StaleTransitionError | RecordKeptError:
    """Find the record that did not move: someone was first, or the database keeps it."""
    found = {m: _place(connection, model, m) for m in moved}
    for m, place in found.items():
        is_moved = place is not None and place[:2] == (m.written, m.last_version)
        if place is not None and is_moved and m.left_at in {None, place[2]}:
            continue  # or kept, if it was to stay where it is
        is_kept = place is not None and place[:2] == (m.steps[0].source, m.version)
        if is_kept:
            return RecordKeptError(model.label(m.record))
        return _stale(m, found=place and place[0])
    stay = [m for m in moved if (m.written, m.last_version) == (m.steps[0].source, m.version)]
    if stay:
        names = [model.label(m.record) for m in stay]
        return RecordKeptError(names[0] if len(names) == 1 else f"one of {', '.join(names)}")
    return _stale(moved[0], found=moved[0].written)  # the same move, at the same time


def _place(
    connection: Connection, model: ResourceModel, moved: Moved
) -> tuple[str, int, datetime] | None:
    """Return state, version and time of a record as stored."""
    table = model.table
    columns = (model.state_column, table.c.state_version, table.c.state_changed_at)
    identity = model.mapper.primary_key_from_instance(moved.record)
    keys = zip(table.primary_key.columns, identity, strict=True)
    row = connection.execute(select(*columns).where(*(c == v for c, v in keys))).first()
    return None if row is None else (str(row[0].value), row[1], row[2])


def _stale(moved: Moved, *, found: str | None, known: bool = True) -> StaleTransitionError:
    step = moved.steps[0]
    return StaleTransitionError(
        step.name,
        record=moved.model.label(moved.record),
        expected=step.source or "",
        found=found if known else "a state that another transaction is changing",
    )

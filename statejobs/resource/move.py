"""Moves records by compare-and-set: whoever finds another state or version has lost the race."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from sqlalchemy import Connection, Table, Update, and_, bindparam, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.attributes import set_committed_value

from statejobs.errors import StaleTransitionError
from statejobs.resource.ledger import Step
from statejobs.resource.model import ResourceModel
from statejobs.store.faults import Fault, fault_of
from statejobs.store.tables import unindexed


@dataclass(frozen=True, kw_only=True, eq=False)
class Moved:
    """A record with the steps that one flush writes."""

    model: ResourceModel
    record: Any
    steps: tuple[Step, ...]
    version: int | None
    """The version in the database before the flush; None for a new record."""

    @property
    def is_new(self) -> bool:
        """Whether the flush inserts it."""
        return self.version is None

    @cached_property
    def record_id(self) -> str:
        """The primary key as text; known once a new record is inserted."""
        return self.model.record_id(self.record)

    @property
    def state(self) -> str:
        """Where the record rests after the flush."""
        return self.steps[-1].target

    @property
    def first_version(self) -> int:
        """Version after the first step; creation is version 0."""
        return 0 if self.version is None else self.version + 1

    @property
    def last_version(self) -> int:
        """Version after the last step."""
        return self.first_version + len(self.steps) - 1


@lru_cache(maxsize=256)
def move_statement(table: Table, attribute_column: str) -> Update:
    """Return the guarded UPDATE of one record: `pk_N`, `was`, `version` → `becomes`."""
    state, version = table.c[attribute_column], table.c["state_version"]
    keys = [
        column == bindparam(f"pk_{n}", type_=column.type)
        for n, column in enumerate(table.primary_key.columns)
    ]
    return (
        update(table)
        .where(and_(*keys), unindexed(state) == bindparam("was", type_=state.type))
        .where(version == bindparam("version"))
        .values(
            {
                state: bindparam("becomes", type_=state.type),
                version: bindparam("next_version"),
                table.c["state_changed_at"]: bindparam("moved_at"),
            }
        )
    )


def move_records(connection: Connection, model: ResourceModel, moved: Sequence[Moved]) -> None:
    """Move *moved*, all of one model, and tell the ORM that their state is in the database.

    Raises:
        StaleTransitionError: Another transaction moved one of them first.
    """
    ordered = sorted(moved, key=lambda m: m.record_id)
    rows = [_parameters(m) for m in ordered]
    column = model.state_column.name
    try:
        found = connection.execute(
            move_statement(model.table, column), rows if len(rows) > 1 else rows[0]
        )
    except DBAPIError as error:
        if fault_of(error) is Fault.CONFLICT:
            raise _stale(ordered[0], found=None, known=False) from error
        raise
    if found.rowcount != len(ordered):
        raise _loser(connection, model, ordered)
    for m in ordered:
        set_committed_value(m.record, model.attribute, model.member(m.state))
        set_committed_value(m.record, "state_version", m.last_version)
        set_committed_value(m.record, "state_changed_at", m.steps[-1].at)


def _parameters(moved: Moved) -> dict[str, Any]:
    identity = moved.model.mapper.primary_key_from_instance(moved.record)
    return {
        **{f"pk_{n}": value for n, value in enumerate(identity)},
        "was": moved.steps[0].source,
        "version": moved.version,
        "becomes": moved.state,
        "next_version": moved.last_version,
        "moved_at": moved.steps[-1].at,
    }


def _loser(
    connection: Connection, model: ResourceModel, moved: Sequence[Moved]
) -> StaleTransitionError:
    """Find the record that someone else had moved, and where it is."""
    table = model.table
    columns = (model.state_column, table.c.state_version, table.c.state_changed_at)
    found: dict[Moved, str | None] = {}
    for m in moved:
        identity = model.mapper.primary_key_from_instance(m.record)
        keys = zip(table.primary_key.columns, identity, strict=True)
        row = connection.execute(select(*columns).where(*(c == v for c, v in keys))).first()
        found[m] = None if row is None else str(row[0].value)
        if row is None or (found[m], row[1], row[2]) != (m.state, m.last_version, m.steps[-1].at):
            return _stale(m, found=found[m])
    return _stale(moved[0], found=found[moved[0]])  # the same move, at the same time


def _stale(moved: Moved, *, found: str | None, known: bool = True) -> StaleTransitionError:
    step = moved.steps[0]
    return StaleTransitionError(
        step.name,
        record=moved.model.label(moved.record),
        expected=step.source or "",
        found=found if known else "a state that another transaction is changing",
    )

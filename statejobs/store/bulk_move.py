"""Statements that find the records which match what somebody asks, and move them."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ClauseElement,
    Column,
    ColumnElement,
    ColumnExpressionArgument,
    Connection,
    Select,
    String,
    Text,
    and_,
    bindparam,
    func,
    literal,
    select,
    tuple_,
    type_coerce,
)

from statejobs.store.bulk import MovedRow
from statejobs.store.naming import Names, names_within
from statejobs.store.records import RecordTable, in_lock_order, move_matching
from statejobs.store.types import UtcDateTime


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchingMove:
    """A move of all records of a class that are in one of its sources and match."""

    whole: Any
    """What the rows are mapped to: the criteria speak of it."""
    state: Any
    """Its attribute that holds the state."""
    records: RecordTable
    record_id: ColumnElement[str]
    """The key as text."""
    criteria: Sequence[ColumnExpressionArgument[bool]]
    sources: Sequence[enum.Enum]
    target: enum.Enum
    at: datetime
    values: Mapping[Column[Any], Any]
    """What is written with the state, in SQL or not."""
    limit: int | None
    tenant: Column[Any] | None = None
    """Says whose a record is; read back where there is one."""

    @cached_property
    def names(self) -> Names:
        """What we call things in its statements: nothing that its caller gave is called so."""
        values = [value for value in self.values.values() if is_sql(value)]
        criteria: Select[Any] = select(self.whole).where(*self.criteria)
        return names_within(self.records.table, [criteria, select(*values)])


def is_sql(value: object) -> bool:
    """Return whether *value* is made by the database."""
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")


def pick_and_move(move: MatchingMove, dialect: str, *, waits: bool) -> Any:
    """Lock the matching records, then move them; returns `MovedRow`s.

    It *waits* for who holds one, and so takes them in the order of their keys; or it takes those
    that it finds first, whom nobody holds, and sorts nothing of what its limit leaves.
    """
    records, names = move.records, move.names
    matching = _matching(move, move.sources).add_columns(
        records.state.label(names["was"])
    )
    if waits:
        locked = in_lock_order(matching, records.keys, records.table, dialect)
    else:
        locked = matching.with_for_update(
            key_share=True, skip_locked=True, of=records.table
        )
    picked = locked.cte(names["picked"])
    found = (key == picked.c[names[f"pk_{n}"]] for n, key in enumerate(records.keys))
    return _update(move, and_(*found)).returning(
        move.record_id.label("record_id"),
        records.version.label("version"),
        type_coerce(picked.c[names["was"]], String()).label("was"),
        *_tenant(move),
    )


def pick_and_move_each(connection: Connection, move: MatchingMove) -> list[MovedRow]:
    """Move from one source after the other, for databases that return no old values.

    One writer at a time: nobody moves a record in between.
    """
    rows: list[MovedRow] = []
    keys = move.records.keys
    # those that stay first: else whatever was moved there would be found again
    for source in sorted(move.sources, key=lambda state: state != move.target):
        picked = _matching(move, (source,), taken=len(rows)).correlate(None)
        matches = keys[0].in_(picked) if len(keys) == 1 else tuple_(*keys).in_(picked)
        statement = _update(move, matches).returning(
            move.record_id.label("record_id"),
            move.records.version.label("version"),
            literal(str(source.value), Text()).label("was"),
            *_tenant(move),
        )
        rows += [MovedRow(*row) for row in connection.execute(statement)]
    return sorted(rows)


def _matching(
    move: MatchingMove, sources: Sequence[enum.Enum], *, taken: int = 0
) -> Select[Any]:
    """Select the keys of the records in *sources* that match, as the ORM selects their class."""
    keys = (key.label(move.names[f"pk_{n}"]) for n, key in enumerate(move.records.keys))
    statement = (
        select(*keys)
        .select_from(move.whole)
        .where(move.state.in_(sources), *move.criteria)
    )
    return (
        statement if move.limit is None else statement.limit(max(move.limit - taken, 0))
    )


def _tenant(move: MatchingMove) -> list[ColumnElement[Any]]:
    return [] if move.tenant is None else [move.tenant.label(move.names["tenant"])]


def is_of_tenant(column: Any, name: str) -> ColumnElement[bool]:
    """Return that a record is of a tenant, or of none."""
    try:
        value = column.type.python_type(name)
    except ValueError:  # a number or a UUID, and this is neither
        is_one: ColumnElement[bool] = column.is_(None)
        return is_one
    is_either: ColumnElement[bool] = (column == value) | column.is_(None)
    return is_either


def added_to(column: Any, by: object) -> ColumnElement[Any]:
    """Return the sum of a column, NULL being 0, and *by*."""
    total: ColumnElement[Any] = func.coalesce(column, 0) + by
    return total


def _update(move: MatchingMove, matches: ColumnElement[bool]) -> Any:
    records, names = move.records, move.names
    given = {
        # SQLAlchemy would name the parameter like the column, and others like that too.
        column: value
        if is_sql(value)
        else bindparam(names[f"c_{n}"], value, type_=column.type)
        for n, (column, value) in enumerate(move.values.items())
    }
    target = bindparam(names["becomes"], move.target, type_=records.state.type)
    at = bindparam(names["moved_at"], move.at, type_=UtcDateTime)
    return move_matching(records, matches, target=target, at=at, also=given)

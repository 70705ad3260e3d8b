"""Records in SQL: the one place that reads, locks and moves them.

A move has three shapes, each a statement that may become a CTE: of *each* record, by a row of
parameters; of those *given* as arrays; of those *matching* a condition. Each compares and sets,
or is told which records are locked. Whoever locks many does so in the order of their keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

import msgspec
from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    FromClause,
    Select,
    String,
    Table,
    Update,
    and_,
    any_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    select,
    tuple_,
    type_coerce,
    update,
)

from statejobs.store.arrays import array_of, fits_array, of_array
from statejobs.store.lock_order import in_key_order
from statejobs.store.naming import Names, names_beside
from statejobs.store.tables import unindexed

Identity = tuple[Any, ...]
"""Values of a primary key."""
Place = tuple[str, int]
"""State and version of a record."""


@dataclass(frozen=True, eq=False)
class RecordTable:
    """A table of records, as SQL sees it."""

    table: Table
    state: Column[Any]

    @cached_property
    def keys(self) -> tuple[Column[Any], ...]:
        """The columns of its primary key."""
        return tuple(self.table.primary_key.columns)

    @cached_property
    def version(self) -> Column[Any]:
        """The column that counts how often a record left a state."""
        return self.table.c.state_version

    @cached_property
    def changed_at(self) -> Column[Any]:
        """The column that says when it last did."""
        return self.table.c.state_changed_at

    @cached_property
    def names(self) -> Names:
        """What we call things in statements on it."""
        return names_beside(self.table)

    @cached_property
    def stored_state(self) -> ColumnElement[str]:
        """The state as it is stored, which may be one that this code lacks."""
        return type_coerce(self.state, String())

    def are(self, identities: Sequence[Identity], dialect: str) -> ColumnElement[bool]:
        """Return the condition that selects *identities*."""
        if len(self.keys) > 1:
            return tuple_(*self.keys).in_(list(identities))
        (column,) = self.keys
        values = [identity[0] for identity in identities]
        if len(values) > 1 and dialect == "postgresql" and fits_array(column):
            return column == any_(literal(values, array_of(column)))  # prepared once
        return column.in_(values)


class RecordMove(msgspec.Struct, frozen=True, kw_only=True):
    """One record's move: from where it has to be, to where it comes."""

    identity: Identity
    was: str | None
    version: int
    becomes: str
    next_version: int
    """The same as before when it stays in its state."""
    moved_at: datetime | None
    """When it left a state; None when it left none."""


@lru_cache(maxsize=1024)
def move_each(records: RecordTable, changed: tuple[Column[Any], ...] = ()) -> Update:
    """Move the record of a row of `move_parameters`, if it is where that says.

    The columns *changed* are written with the move, from the parameters `c_N`.
    """

    def given(name: str, column: Column[Any]) -> Any:
        return bindparam(records.names[name], type_=column.type)

    changed_at = records.changed_at
    return (
        update(records.table)
        .where(
            *(
                column == given(f"pk_{n}", column)
                for n, column in enumerate(records.keys)
            )
        )
        .where(
            unindexed(records.state) == given("was", records.state),
            records.version == given("version", records.version),
        )
        .values(
            {
                records.state: given("becomes", records.state),
                records.version: given("next_version", records.version),
                changed_at: func.coalesce(given("moved_at", changed_at), changed_at),
                **{column: given(f"c_{n}", column) for n, column in enumerate(changed)},
            }
        )
    )


def move_parameters(
    records: RecordTable, move: RecordMove, changes: Sequence[object] = ()
) -> dict[str, Any]:
    """Return the parameters of `move_each`."""
    given = {
        **{f"pk_{n}": value for n, value in enumerate(move.identity)},
        "was": move.was,
        "version": move.version,
        "becomes": move.becomes,
        "next_version": move.next_version,
        "moved_at": move.moved_at,
        **{f"c_{n}": value for n, value in enumerate(changes)},
    }
    return {records.names[name]: value for name, value in given.items()}


def move_records(
    connection: Connection, records: RecordTable, moves: Sequence[RecordMove]
) -> CursorResult[Any]:
    """Move each record that is where its move says; the result counts them."""
    rows = [move_parameters(records, move) for move in moves]
    return connection.execute(move_each(records), rows if len(rows) > 1 else rows[0])


def given_columns(
    records: RecordTable, changed: Sequence[Column[Any]]
) -> dict[str, Column[Any]]:
    """Return the columns of which `lock_given` and `move_given` need arrays."""
    return {
        **{f"pk_{n}": key for n, key in enumerate(records.keys)},
        "was": records.state,
        "version": records.version,
        **{f"c_{n}": column for n, column in enumerate(changed)},
    }


def given_rows(columns: Mapping[str, Column[Any]], names: Names) -> CTE:
    """Return rows made of the arrays `given_…`, one for each of *columns*."""
    return select(
        *(
            of_array(
                func.unnest(bindparam(names[f"given_{name}"], type_=array_of(column))),
                column,
            ).label(name)
            for name, column in columns.items()
        )
    ).cte(names["given"])


def lock_given(records: RecordTable, given: FromClause) -> Select[Any]:
    """Lock those of *given* that are where it says and nobody holds; select what else it has."""
    return (
        select(given.c.job_id)
        .join(records.table, _is_given(records, given))
        .where(stays_as_given(records, given))
        .with_for_update(key_share=True, skip_locked=True, of=records.table)
    )


def move_given(
    records: RecordTable,
    given: FromClause,
    changed: Sequence[Column[Any]],
    *,
    target: Any,
    at: Any,
) -> Update:
    """Move the records of *given*, which are locked, and write their columns *changed*."""
    return (
        update(records.table)
        .where(_is_given(records, given))
        .values(
            {
                **_moved_values(records, target=target, at=at),
                **{column: given.c[f"c_{n}"] for n, column in enumerate(changed)},
            }
        )
    )


def move_matching(
    records: RecordTable,
    *conditions: ColumnElement[bool],
    target: Any,
    at: Any,
    also: Mapping[Column[Any], Any] | None = None,
) -> Update:
    """Move the records that match *conditions* to *target*, whatever state they are in.

    The columns of *also* are written with the move.
    """
    values = {**(also or {}), **_moved_values(records, target=target, at=at)}
    return update(records.table).where(*conditions).values(values)


def in_lock_order(
    query: Select[Any],
    keys: Sequence[ColumnElement[Any]],
    table: FromClause,
    dialect: str,
    *,
    for_delete: bool = False,
    skip_locked: bool = False,
) -> Select[Any]:
    """Let *query* lock the rows of *table*, in the order of their *keys*.

    It waits for others, unless what they hold is skipped. An insert that refers to one of the rows
    may go on, unless it is to be deleted.
    """
    ordered = query.order_by(*in_key_order(keys, dialect))
    return ordered.with_for_update(
        key_share=not for_delete, skip_locked=skip_locked, of=table
    )


def lock_place(
    connection: Connection,
    records: RecordTable,
    identity: Identity,
    *,
    skip_locked: bool = False,
) -> Place | None:
    """Lock one record; return where it is, or None when it is gone or, if so wanted, held."""
    query = _place_of(connection, records, identity)
    return _place(
        connection.execute(
            query.with_for_update(key_share=True, skip_locked=skip_locked)
        ).first()
    )


def lock_places(
    connection: Connection,
    records: RecordTable,
    identities: Sequence[Identity],
    *,
    for_delete: bool = False,
    skip_locked: bool = False,
) -> dict[Identity, Place]:
    """Lock records, waiting for others unless those are skipped; return where each is.

    *for_delete* waits for those too who insert a row that refers to one, as a DELETE does.
    """
    query = in_lock_order(
        _places_of(connection, records, identities),
        records.keys,
        records.table,
        connection.dialect.name,
        for_delete=for_delete,
        skip_locked=skip_locked,
    )
    return _by_identity(connection, query)


def read_places(
    connection: Connection, records: RecordTable, identities: Sequence[Identity]
) -> dict[Identity, Place]:
    """Return where records are without locking them, but for those that are not seen."""
    return _by_identity(connection, _places_of(connection, records, identities))


def read_place(
    connection: Connection, records: RecordTable, identity: Identity
) -> Place | None:
    """Return where a record is without locking it; None when it is not seen."""
    return _place(connection.execute(_place_of(connection, records, identity)).first())


def is_place_of(
    connection: Connection,
    records: RecordTable,
    identity: Identity,
    place: tuple[str | None, int],
    values: Mapping[Column[Any], object],
) -> bool:
    """Lock a record; return whether it is in *place*, and has *values*."""
    query: Select[Any] = _place_of(connection, records, identity).add_columns(*values)
    row: Any = connection.execute(query.with_for_update(key_share=True)).first()
    if row is None or (row[0], row[1]) != place:
        return False
    pairs = zip(values.items(), row[2:], strict=True)
    return all(
        column.type.compare_values(now, new) is True for (column, new), now in pairs
    )


def _place_of(
    connection: Connection, records: RecordTable, identity: Identity
) -> Select[Any]:
    return select(records.stored_state, records.version).where(
        records.are([identity], connection.dialect.name)
    )


def _places_of(
    connection: Connection, records: RecordTable, identities: Sequence[Identity]
) -> Select[Any]:
    is_one = records.are(identities, connection.dialect.name)
    return select(*records.keys, records.stored_state, records.version).where(is_one)


def _by_identity(connection: Connection, query: Select[Any]) -> dict[Identity, Place]:
    rows = connection.execute(query)
    return {tuple(key): (state, version) for *key, state, version in rows}


def _place(row: Any) -> Place | None:
    return None if row is None else (row[0], row[1])


def stays_as_given(records: RecordTable, given: FromClause) -> ColumnElement[bool]:
    """Return the condition that a record is where *given* says."""
    return and_(
        unindexed(records.state) == given.c.was, records.version == given.c.version
    )


def _is_given(records: RecordTable, given: FromClause) -> ColumnElement[bool]:
    return and_(*(key == given.c[f"pk_{n}"] for n, key in enumerate(records.keys)))


def _moved_values(
    records: RecordTable, *, target: Any, at: Any
) -> dict[Column[Any], ColumnElement[Any]]:
    """Return what a move to *target* sets: one that keeps the state is no move away from it."""
    version = records.version
    changed_at = records.changed_at
    stays = records.state == target  # SET reads the row as it was
    # a parameter would be named after the column
    one: ColumnElement[int] = literal_column("1")
    return {
        records.state: target,
        version: case((stays, version), else_=version + one),
        changed_at: case((stays, changed_at), else_=at),
    }

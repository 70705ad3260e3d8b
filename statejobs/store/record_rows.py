"""Rows of records as they are read: some columns of them, or whole, as what they are mapped to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.orm import lazyload

from statejobs.store.records import Identity, RecordTable, in_lock_order
from statejobs.store.tables import unindexed


def read_rows(
    connection: Connection,
    records: RecordTable,
    identities: Sequence[Identity],
    *columns: ColumnElement[Any],
    whole: Any = None,
) -> dict[Identity, tuple[Any, ...]]:
    """Return the values of *columns* by key, for those of *identities* that are there.

    With *whole*, what the rows are mapped to, the columns may be of all its tables.
    """
    query = _of_keys(records, identities, connection.dialect.name)
    if whole is not None:
        query = query.select_from(whole)
    rows = connection.execute(query.add_columns(*columns))
    keys = len(records.keys)
    return {tuple(row[:keys]): tuple(row[keys:]) for row in rows}


def find_in_states(
    connection: Connection,
    records: RecordTable,
    identities: Sequence[Identity],
    states: Collection[str],
) -> set[Identity]:
    """Return those of *identities* that are in one of *states*."""
    query = _of_keys(records, identities, connection.dialect.name).where(
        unindexed(records.state).in_(states)
    )
    return {tuple(row) for row in connection.execute(query)}


def lock_at_once(
    connection: Connection, records: RecordTable, identities: Sequence[Identity]
) -> set[Identity]:
    """Lock what of *identities* this role may; the database refuses when one of them is held."""
    query = _of_keys(records, identities, connection.dialect.name).with_for_update(
        key_share=True, nowait=True
    )
    return {tuple(row) for row in connection.execute(query)}


def lock_rows(
    connection: Connection,
    table: FromClause,
    keys: Sequence[ColumnElement[Any]],
    identities: Sequence[Identity],
) -> None:
    """Lock the rows of any *table* with these values of *keys*, in their order."""
    query: Select[Any] = select(literal_column("1")).select_from(table)
    matching = query.where(_are(keys, identities))
    connection.execute(in_lock_order(matching, keys, table, connection.dialect.name))


def load_whole(
    whole: Any, records: RecordTable, identities: Sequence[Identity], dialect: str
) -> Select[Any]:
    """Load *identities* as *whole*: what their rows are mapped to."""
    return select(whole).where(records.are(identities, dialect))


def lock_whole(
    whole: Any,
    records: RecordTable,
    identities: Sequence[Identity],
    states: Collection[str],
    *,
    dialect: str,
    has_eager: bool,
    for_delete: bool,
    skip_locked: bool = False,
) -> Select[Any]:
    """Lock those of *identities* in *states*, and load them anew as *whole*.

    It waits for others, unless what they hold is skipped.

    What would be loaded with them, when it *has_eager* relationships, is left for later.
    """
    query: Any = (
        load_whole(whole, records, identities, dialect)
        .where(unindexed(records.state).in_(states))
        .options(*without_eager(has_eager=has_eager))
        .execution_options(populate_existing=True)
    )
    return in_lock_order(
        query,
        records.keys,
        records.table,
        dialect,
        for_delete=for_delete,
        skip_locked=skip_locked,
    )


def check_loading(whole: Any, options: Sequence[Any]) -> None:
    """Raise what a query for *whole* with loader *options* would raise."""
    select(whole).options(*options).compile()


def without_eager(*, has_eager: bool) -> Sequence[Any]:
    """Return the options of a query that loads records and nothing else."""
    return [lazyload("*")] if has_eager else []


def _of_keys(
    records: RecordTable, identities: Sequence[Identity], dialect: str
) -> Select[Any]:
    return select(*records.keys).where(records.are(identities, dialect))


def _are(
    keys: Sequence[ColumnElement[Any]], identities: Sequence[Identity]
) -> ColumnElement[bool]:
    if len(keys) > 1:
        return tuple_(*keys).in_(list(identities))
    return keys[0].in_([identity[0] for identity in identities])

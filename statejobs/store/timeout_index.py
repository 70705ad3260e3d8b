"""The index by which records are found whose time in a state is over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Column, Engine, Index, Table, inspect
from sqlalchemy.sql.elements import conv

from statejobs.errors import SchemaError
from statejobs.store.check_names import LONGEST_NAME, cut_name
from statejobs.store.engines.addresses import shown_url


def index_timeouts(state: Column[Any]) -> None:
    """Give the table of a *state* column the index, if it has none.

    It ends with the key: thousands of records may have come into their state at one instant, and
    are walked through in its order without a sort.
    """
    table = state.table
    if index_of(table) is not None:
        return
    key = table.primary_key.columns
    Index(_name(table), state, table.c.state_changed_at, *key)


def index_of(table: Table) -> Index | None:
    """Return the index that `index_timeouts` gave *table*; None when it has no timeout."""
    name = _name(table)
    return next((one for one in table.indexes if one.name == name), None)


def make_missing(engine: Engine, tables: Iterable[Table]) -> None:
    """Make the indexes that *tables* lack: one that is there already gets none with its table."""
    for index in [*find_missing(engine, tables)]:
        index.create(engine)


def check_indexes(engine: Engine, tables: Iterable[Table]) -> None:
    """Refuse a database that lacks one of the indexes.

    Raises:
        SchemaError: It does.
    """
    missing = [
        f"{index.name} on {index.table}" for index in find_missing(engine, tables)
    ]
    if missing:
        raise SchemaError(
            f"{shown_url(engine.url)} lacks the index {', '.join(missing)}",
            why="by it workers find the records whose time in a state is over",
            fix="Run `alembic revision --autogenerate`, then `alembic upgrade head`; "
            "for SQLite, demos and tests, jobs.create_all() makes it too",
        )


def find_missing(engine: Engine, tables: Iterable[Table]) -> Iterator[Index]:
    """Yield the indexes that *tables* should have, and the database lacks; not of what is missing.

    It asks the database only where there is a timeout.
    """
    wanted = [(table, index) for table in tables if (index := index_of(table))]
    if not wanted:
        return
    found = inspect(engine)
    for table, index in wanted:
        if not found.has_table(table.name, schema=table.schema):
            continue
        existing = found.get_indexes(table.name, schema=table.schema)
        if index.name not in {one["name"] for one in existing}:
            yield index


def _name(table: Table) -> str:
    return conv(cut_name(f"ix_{table.name}_timeouts", LONGEST_NAME))

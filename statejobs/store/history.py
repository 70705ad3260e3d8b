"""Writes down where records went."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Executable, bindparam, insert

from statejobs.store.arrays import as_arrays, rows_of_arrays
from statejobs.store.prepared import Prepared
from statejobs.store.tables import transitions

HISTORY_COLUMNS = [column.name for column in transitions.columns if column.name != "id"]


def write_history(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of history with one statement; as arrays where the database has them."""
    if len(rows) > 1 and connection.dialect.name == "postgresql":
        constant, given = as_arrays(rows)
        _history(connection.dialect, arrays=True, constant=constant).execute(connection, given)
    else:
        _history(connection.dialect).execute(connection, rows if len(rows) > 1 else rows[0])


@lru_cache(maxsize=256)
def _history(
    dialect: Dialect, *, arrays: bool = False, constant: frozenset[str] = frozenset()
) -> Prepared:
    return Prepared(_insert_transitions(arrays=arrays, constant=constant), dialect)


def _insert_transitions(*, arrays: bool = False, constant: Collection[str] = ()) -> Executable:
    """Write rows of history."""
    if not arrays:
        values = {n: bindparam(n, type_=transitions.c[n].type) for n in HISTORY_COLUMNS}
        return insert(transitions).values(values).inline()
    rows = rows_of_arrays(transitions, HISTORY_COLUMNS, constant)
    return insert(transitions).from_select(HISTORY_COLUMNS, rows)

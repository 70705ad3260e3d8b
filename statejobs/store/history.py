"""Writes down where records went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect

from statejobs.store.arrays import as_arrays
from statejobs.store.prepared import Prepared
from statejobs.store.statements import enqueue as enqueue_sql


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
    return Prepared(enqueue_sql.insert_transitions(arrays=arrays, constant=constant), dialect)

"""Writes down where records went: one row of history, and two ways to write many."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import structs
from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Executable,
    FromClause,
    Insert,
    Join,
    Row,
    Select,
    bindparam,
    insert,
    literal,
    select,
)

from statejobs.store.arrays import as_arrays, rows_of_arrays
from statejobs.store.prepared import Prepared
from statejobs.store.tables import transitions


class HistoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a record, as `statejobs_transitions` keeps it."""

    resource: str
    record_id: str
    name: str
    """Of the edge that it took."""
    source: str | None
    """None when the record was created."""
    target: str
    version: int
    actor: str | None
    tenant: str | None
    job_id: int | None = None
    attempt: int | None = None
    """Of the job; None when a person acted by hand."""
    args: str | None = None
    reason: str | None = None
    duration: float | None = None
    """Seconds that the body took."""
    at: datetime


HISTORY_COLUMNS = HistoryRow.__struct_fields__


def write_history(connection: Connection, rows: Sequence[HistoryRow]) -> None:
    """Insert *rows* with one statement; as arrays where the database has them."""
    given = [structs.asdict(row) for row in rows]
    if len(rows) > 1 and connection.dialect.name == "postgresql":
        constant, arrays = as_arrays(given)
        _history(connection.dialect, arrays=True, constant=constant).execute(
            connection, arrays
        )
    else:
        _history(connection.dialect).execute(
            connection, given if len(given) > 1 else given[0]
        )


def history_from(
    rows: FromClause | Join,
    varied: Mapping[str, ColumnElement[Any]],
    same: Mapping[str, Any],
) -> Insert:
    """Write a row for each of *rows*, without reading them.

    *varied* are the columns that differ; *same* the values that all share, in SQL or not.
    """

    def value(name: str) -> ColumnElement[Any]:
        if name in varied:
            return varied[name]
        shared = same[name]
        is_sql = isinstance(shared, ColumnElement)
        return shared if is_sql else literal(shared, transitions.c[name].type)

    values = [value(name).label(name) for name in HISTORY_COLUMNS]
    return insert(transitions).from_select(
        list(HISTORY_COLUMNS), select(*values).select_from(rows)
    )


def read_last_step(
    connection: Connection, resource: str, record_id: str
) -> Row[Any] | None:
    """Return name, target and version of the last step of a record."""
    query = _last_step(resource, record_id)
    return connection.execute(query).first()


def _last_step(resource: str, record_id: str) -> Select[Any]:
    return (
        select(transitions.c.name, transitions.c.target, transitions.c.version)
        .where(transitions.c.resource == resource, transitions.c.record_id == record_id)
        .order_by(transitions.c.id.desc())
        .limit(1)
    )


@lru_cache(maxsize=256)
def _history(
    dialect: Dialect, *, arrays: bool = False, constant: frozenset[str] = frozenset()
) -> Prepared:
    return Prepared(_insert_transitions(arrays=arrays, constant=constant), dialect)


def _insert_transitions(
    *, arrays: bool = False, constant: Collection[str] = ()
) -> Executable:
    """Write rows of history."""
    if not arrays:
        values = {n: bindparam(n, type_=transitions.c[n].type) for n in HISTORY_COLUMNS}
        return insert(transitions).values(values).inline()
    rows = rows_of_arrays(transitions, HISTORY_COLUMNS, constant)
    return insert(transitions).from_select(list(HISTORY_COLUMNS), rows)

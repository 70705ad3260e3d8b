"""Rows for people: what cannot be read of one is marked, and hides none of the others.

Someone wrote past statejobs, or a newer version did. Workers deal with such rows by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Integer,
    Select,
    Table,
    and_,
    select,
)

from statejobs.store.conditions import FIRST_TIME
from statejobs.store.faults import Fault, fault_of
from statejobs.store.rows import outcome_of
from statejobs.store.tables import attempts, jobs, nodes, transitions
from statejobs.store.types import UtcDateTime
from statejobs.values.job import Job, JobState
from statejobs.values.meta import read_meta
from statejobs.values.unknown_state import UnknownState

_NOTED_IN = {jobs: "reason", attempts: "message", transitions: "reason", nodes: "host"}
"""Table → the column in which people are told."""
_OF_VALUES = (None, Fault.ROW)
"""Faults that a value is to blame for: one that Python cannot hold, too."""
_STATES = {state.value: state for state in JobState}


class Found(NamedTuple):
    """What a column holds, as far as it can be read."""

    value: Any
    is_read: bool


def read_rows(
    connection: Connection, table: Table, query: Select[Any]
) -> list[dict[str, Any]]:
    """Return what *query*, which selects *table*, finds; each row by itself where one is broken.

    Raises:
        DBAPIError: The database is away, or lacks what is asked for.
    """
    try:
        rows = connection.execute(query).all()
        return [_checked(table, dict(row._mapping)) for row in rows]  # noqa: SLF001 - its public name
    except Exception as error:
        if fault_of(error) not in _OF_VALUES:
            raise
        connection.rollback()
    keys = connection.execute(
        query.with_only_columns(*table.primary_key, maintain_column_froms=True)
    )
    return [_read_row(connection, table, key) for key in keys.all()]


def read_jobs(connection: Connection, query: Select[Any]) -> list[Job]:
    """Return the jobs that *query* finds; one in a state that nobody knows has it as its state."""
    return [_job(row) for row in read_rows(connection, jobs, query)]


def _job(row: dict[str, Any]) -> Job:
    state = _STATES.get(row["state"]) or UnknownState(row["state"])
    outcome = row["outcome"] and outcome_of(row["outcome"])
    return Job(
        **{**row, "state": state, "outcome": outcome, "meta": _meta_of(row["meta"])}
    )


def _meta_of(text: str | None) -> dict[str, Any]:
    try:
        return {} if text is None else read_meta(text)
    except ValueError:
        return {"(cannot be read)": text}


def _read_row(
    connection: Connection, table: Table, key: Sequence[Any]
) -> dict[str, Any]:
    is_it = and_(*(c == value for c, value in zip(table.primary_key, key, strict=True)))
    found = {
        c.name: _read(connection, select(c).where(is_it), c) for c in table.columns
    }
    values = {name: what.value for name, what in found.items()}
    return _checked(
        table, values, [name for name, what in found.items() if not what.is_read]
    )


def _checked(
    table: Table, row: dict[str, Any], unread: Sequence[str] = ()
) -> dict[str, Any]:
    """Return *row* with what is no value of its column marked, beside what is *unread*."""
    wrong = [name for name, value in row.items() if not _fits(value, table.c[name])]
    if not (wrong or unread):
        return row
    marked = [name for name in row if name in {*wrong, *unread}]
    values = {**row, **{name: _instead(table.c[name]) for name in wrong}}
    noted = _NOTED_IN[table]
    values[noted] = _told(marked, None if noted in marked else values.get(noted))
    return values


def _fits(value: Any, column: Column[Any]) -> bool:
    """Return whether *value* is of the kind of its *column*; SQLite holds any, JSON no NaN."""
    if value is None or isinstance(column.type, UtcDateTime):
        return True
    if isinstance(value, float):
        return isinstance(column.type, Float) and isfinite(value)
    if isinstance(column.type, Float | Integer):
        return isinstance(value, int)
    return not isinstance(value, bytes)


def _read(connection: Connection, query: Select[Any], column: Column[Any]) -> Found:
    try:
        return Found(connection.scalars(query).first(), is_read=True)
    except Exception as error:
        if fault_of(error) not in _OF_VALUES:
            raise
        connection.rollback()
    return Found(_instead(column), is_read=False)


def _instead(column: Column[Any]) -> Any:
    """Return what stands for a value that cannot be read: a time of long ago, or nothing."""
    if column.nullable:
        return None
    return FIRST_TIME if isinstance(column.type, UtcDateTime) else "?"


def _told(unread: Sequence[str], before: str | None) -> str:
    mark = f"cannot be read: {', '.join(unread)}"
    return f"{mark}; {before}" if before else mark

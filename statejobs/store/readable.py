"""Rows for people: what cannot be read of one is marked, and hides none of the others.

Someone wrote past statejobs, or a newer version did. Workers deal with such rows by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Select, Table, and_, select

from statejobs.store.conditions import FIRST_TIME
from statejobs.store.faults import Fault, fault_of
from statejobs.store.tables import attempts, jobs, nodes, transitions
from statejobs.store.types import UtcDateTime
from statejobs.values.job import Job, JobState
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


def read_rows(connection: Connection, table: Table, query: Select[Any]) -> list[dict[str, Any]]:
    """Return what *query*, which selects *table*, finds; each row by itself where one is broken.

    Raises:
        DBAPIError: The database is away, or lacks what is asked for.
    """
    try:
        return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - its public name
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
    return Job(**{**row, "state": state})


def _read_row(connection: Connection, table: Table, key: Sequence[Any]) -> dict[str, Any]:
    is_it = and_(*(c == value for c, value in zip(table.primary_key, key, strict=True)))
    found = {c.name: _read(connection, select(c).where(is_it), c) for c in table.columns}
    values = {name: what.value for name, what in found.items()}
    unread = [name for name, what in found.items() if not what.is_read]
    if unread:
        noted = _NOTED_IN[table]
        values[noted] = _told(unread, None if noted in unread else values[noted])
    return values


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

"""What a move writes to a record: one that keeps the state is no move away from it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, Table, case, literal_column


def moved_values(
    table: Table, state: Column[Any], *, target: Any, at: Any
) -> dict[Column[Any], ColumnElement[Any]]:
    """Return what an UPDATE that moves records to *target* sets, whatever state they are in."""
    version, changed_at = table.c.state_version, table.c.state_changed_at
    stays = state == target  # SET reads the row as it was
    one: ColumnElement[int] = literal_column("1")  # a parameter would be named after the column
    return {
        state: target,
        version: case((stays, version), else_=version + one),
        changed_at: case((stays, changed_at), else_=at),
    }

"""What Python writes into columns by itself when SQL alone inserts or updates a row."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Table

CREATED_AT = "statejobs_created_at"
"""Execution option of an INSERT: when the records come into their initial state."""


def created_at(context: Any) -> datetime | None:
    """Return when the records of an INSERT are created; None where nobody told, past a session."""
    at: datetime | None = context.execution_options.get(CREATED_AT)
    return at


def onupdate_values(table: Table) -> dict[Column[Any], Any]:
    """Return values of the columns of *table* whose `onupdate=` is a value or a function.

    SQLAlchemy calls them for a statement of its own, but inside a CTE it writes NULL instead.
    """
    found: dict[Column[Any], Any] = {}
    for column in table.columns:
        default: Any = column.onupdate
        if default is not None and (default.is_scalar or default.is_callable):
            found[column] = default.arg(None) if default.is_callable else default.arg
    return found

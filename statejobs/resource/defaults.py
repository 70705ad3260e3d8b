"""What Python writes into columns with `onupdate=` when SQL alone updates a row."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table


def onupdate_values(table: Table) -> dict[str, Any]:
    """Return values of the columns of *table* whose `onupdate=` is a value or a function.

    SQLAlchemy calls them for a statement of its own, but inside a CTE it writes NULL instead.
    """
    found: dict[str, Any] = {}
    for column in table.columns:
        default: Any = column.onupdate
        if default is not None and (default.is_scalar or default.is_callable):
            found[column.name] = default.arg(None) if default.is_callable else default.arg
    return found

"""What rows hold in a column of ours that they had before it came, and how to write it in SQL."""

from __future__ import annotations

from sqlalchemy import String, literal_column, text
from sqlalchemy.sql.elements import ColumnElement

OLD_ROWS = "statejobs_old_rows"
"""Key in the `info` of a column of ours, of text or of SQL."""
ZERO = text("0")


def text_literal(value: str) -> ColumnElement[str]:
    """Return *value* as it stands in a statement without parameters."""
    return literal_column("'" + value.replace("'", "''") + "'", String())

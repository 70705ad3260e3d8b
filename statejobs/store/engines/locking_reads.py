"""Reads that lock, on a database whose SQL does not say so: SQLite locks the file, not rows."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.sql import visitors

_KNOWN: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""Compiled statements, which SQLAlchemy keeps and uses again."""


def locks_rows(context: Any) -> bool:
    """Return whether the statement of an execution context was made `with_for_update`."""
    compiled = getattr(context, "compiled", None)
    if compiled is None:
        return False
    known = _KNOWN.get(compiled)
    if known is None:
        known = _KNOWN[compiled] = _asks_for_locks(compiled.statement)
    return known


def _asks_for_locks(statement: Any) -> bool:
    if statement is None or not getattr(statement, "is_select", False):
        return False
    return any(
        getattr(part, "_for_update_arg", None) is not None
        for part in visitors.iterate(statement)
    )

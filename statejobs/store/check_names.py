"""The constraints that guard state columns, and their names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import CheckConstraint, Column
from sqlalchemy.sql.elements import conv

from statejobs.store.old_rows import text_literal

GUARDS_STATES = "statejobs.guards_states"
"""Key in the `info` of a column that has its CHECK, and of that CHECK."""
LONGEST_NAME = 63  # bytes; PostgreSQL cuts identifiers there
_DIGITS = 8


def guard_states(column: Column[Any], table: str, values: Sequence[str]) -> None:
    """Let *column* hold none but *values*: a constraint that attaches itself to its table."""
    listed = [text_literal(value) for value in values]
    name = conv(check_name(table, column.name, values))
    CheckConstraint(column.in_(listed), name=name, info={GUARDS_STATES: True})


def check_name(table: str, column: str, values: Sequence[str]) -> str:
    """Return the constraint's name; it changes with the states, so that Alembic sees the change."""
    return f"{_stem(table, column)}_{_digest(chr(0).join(sorted(values)))}"


def guards_states(name: str, table: str, column: str) -> bool:
    """Return whether a constraint called *name* guards this column, whatever the states were."""
    stem = re.escape(_stem(table, column))
    return re.fullmatch(f"{stem}_[0-9a-f]{{{_DIGITS}}}", name) is not None


def _stem(table: str, column: str) -> str:
    return cut_name(f"ck_{table}_{column}", LONGEST_NAME - _DIGITS - 1)


def cut_name(name: str, longest: int) -> str:
    """Return *name* in at most so many bytes: of a longer one the start, and a digest."""
    if len(name.encode()) <= longest:
        return name
    start = name.encode()[: longest - _DIGITS - 1].decode(errors="ignore")
    return f"{start}_{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]

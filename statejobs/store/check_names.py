"""Names of the constraints that guard state columns."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

_LONGEST_NAME = 63  # bytes; PostgreSQL cuts identifiers there
_DIGITS = 8


def check_name(table: str, column: str, values: Sequence[str]) -> str:
    """Return the constraint's name; it changes with the states, so that Alembic sees the change."""
    return f"{_stem(table, column)}_{_digest(chr(0).join(sorted(values)))}"


def guards_states(name: str, table: str, column: str) -> bool:
    """Return whether a constraint called *name* guards this column, whatever the states were."""
    stem = re.escape(_stem(table, column))
    return re.fullmatch(f"{stem}_[0-9a-f]{{{_DIGITS}}}", name) is not None


def _stem(table: str, column: str) -> str:
    stem = f"ck_{table}_{column}"
    if len(stem.encode()) <= _LONGEST_NAME - _DIGITS - 1:
        return stem
    start = stem.encode()[: _LONGEST_NAME - 2 * (_DIGITS + 1)].decode(errors="ignore")
    return f"{start}_{_digest(stem)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]

"""Rows as one array for each column: one short statement however many rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def as_arrays(rows: Sequence[Mapping[str, Any]]) -> tuple[frozenset[str], dict[str, Any]]:
    """Return an array for each column, but one value where it is constant; and those columns."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    constant = frozenset(name for name, values in columns.items() if _is_constant(values))
    constant -= {_NEVER_CONSTANT}
    return constant, {n: v[0] if n in constant else v for n, v in columns.items()}


def _is_constant(values: Sequence[Any]) -> bool:
    first = values[0]
    return all(value is first or value == first for value in values)


_NEVER_CONSTANT = "record_id"  # one array says how many rows there are

"""The one order in which rows are locked: records before jobs, and among each as said here.

Two who lock many rows in one order never wait for each other. Records go by table, those that
others refer to first, and then by the values of their key, as SQLAlchemy's unit of work writes
them; jobs by what names their trigger and record. Claims wait for nobody, and so need no order.

Nearly nobody: PostgreSQL waits in spite of SKIP LOCKED for a row that is changed, and locked again
by another, while it looks ("while locking updated version"). So whoever skips rows in another order
than this one waits briefly only, and it is not those who lock in order that meet a deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Enum,
    ForeignKey,
    FromClause,
    String,
    Table,
    func,
)
from sqlalchemy.exc import NoReferenceError

from statejobs.store.types import type_on_postgresql

Place = tuple[int, str]
"""Where a table stands among others."""


@lru_cache(maxsize=1024)
def place_of(table: FromClause) -> Place:
    """Return where the rows of *table* come, beside those of other tables."""
    name = table.fullname if isinstance(table, Table) else str(table)
    return _depth(table, frozenset()), name


def key_order(
    columns: Sequence[ColumnElement[Any]],
) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Return what sorts primary keys, the values of *columns*, as the unit of work does."""
    functions = [column.type.sort_key_function for column in columns]

    def order(identity: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(
            value if function is None else function(value)
            for value, function in zip(identity, functions, strict=True)
        )

    return order


def in_key_order(
    columns: Sequence[ColumnElement[Any]], dialect: str
) -> list[ColumnElement[Any]]:
    """Return what SQL sorts by, to come to the same order as `key_order`."""
    return [_as_python(column, dialect) for column in columns]


def job_order(dedupe_key: str) -> tuple[int, str]:
    """Return what jobs are sorted by before they are locked.

    By length first, so that record 2 comes before record 10.
    """
    return len(dedupe_key), dedupe_key


def in_job_order(
    dedupe_key: ColumnElement[str], dialect: str
) -> list[ColumnElement[Any]]:
    """Return what SQL sorts by, to come to the same order as `job_order`."""
    return [func.length(dedupe_key), _collated(dedupe_key, dialect)]


def _as_python(column: ColumnElement[Any], dialect: str) -> ColumnElement[Any]:
    kind = type_on_postgresql(column.type)  # elsewhere nothing is collated
    is_text = isinstance(kind, String) and not (
        isinstance(kind, Enum) and kind.native_enum
    )
    return _collated(column, dialect) if is_text else column


def _collated(text: ColumnElement[str], dialect: str) -> ColumnElement[str]:
    return text.collate("C") if dialect == "postgresql" else text


def _depth(table: FromClause, below: frozenset[FromClause]) -> int:
    """Return how many tables stand above *table*, one referring to the next."""
    within = below | {table}
    parents = {key.column.table for key in table.foreign_keys if _is_known(key)}
    return 1 + max((_depth(parent, within) for parent in parents - within), default=0)


def _is_known(key: ForeignKey) -> bool:
    try:
        return key.column is not None
    except NoReferenceError:  # another metadata has that table, or nobody
        return False

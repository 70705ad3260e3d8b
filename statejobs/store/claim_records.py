"""Statements that lock the records of a batch of jobs, and move them to where these run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Select,
    and_,
    any_,
    bindparam,
    case,
    literal_column,
    select,
    tuple_,
)

from statejobs.store.arrays import array_of, fits_array
from statejobs.store.candidates import Candidates
from statejobs.store.prepared import Prepared
from statejobs.store.record_rows import read_rows, without_eager
from statejobs.store.records import Identity, RecordTable, move_matching
from statejobs.store.tables import unindexed
from statejobs.store.types import UtcDateTime


@lru_cache(maxsize=256)
def lock_waiting(
    whole: Any,
    records: RecordTable,
    states: tuple[str, ...],
    dialect: str,
    *,
    has_eager: bool,
    picked: Candidates | None = None,
) -> Select[Any]:
    """Lock those of `listed` that are in *states* and nobody holds; load them as *whole*.

    Those that were *picked* must match still.
    """
    matches = () if picked is None else (picked.matches,)
    return (
        select(whole)
        .where(_is_listed(records, dialect))
        .where(unindexed(records.state).in_(states), *matches)
        # two records of a batch may share an object, and each goes into a session of its own
        .options(*without_eager(has_eager=has_eager))
        # NO KEY UPDATE: inserting a child row that refers to the record does not count
        .with_for_update(key_share=True, skip_locked=True, of=records.table)
    )


def listed(records: RecordTable, identities: Sequence[Identity]) -> dict[str, Any]:
    """Return the parameters of `lock_waiting`."""
    is_single = len(records.keys) == 1
    keys = [identity[0] for identity in identities] if is_single else list(identities)
    return {records.names["keys"]: keys}


def read_picked(
    connection: Connection, picked: Candidates, identities: Sequence[Identity]
) -> dict[Identity, tuple[Any, ...]]:
    """Return the state of those of *identities* that are there, and whether each matches."""
    asked = (picked.records.stored_state, whether_matching(picked))
    return read_rows(connection, picked.records, identities, *asked, whole=picked.whole)


def whether_matching(picked: Candidates) -> ColumnElement[int]:
    """Return 1 for a record that matches what it is picked by, else 0."""
    return case((picked.matches, literal_column("1")), else_=literal_column("0"))


class MoveTo:
    """Moves records that are locked to one state."""

    def __init__(self, records: RecordTable, target: str, dialect: Dialect) -> None:
        names = records.names
        self._names = names
        self._has_arrays = _has_key_arrays(records, dialect.name)
        keys = [
            column == bindparam(names[f"pk_{n}"], type_=column.type)
            for n, column in enumerate(records.keys)
        ]
        move = move_matching(
            records,
            _is_listed(records, dialect.name) if self._has_arrays else and_(*keys),
            target=bindparam(names["becomes"], target, type_=records.state.type),
            at=bindparam(names["moved_at"], type_=UtcDateTime),
        )
        self._statement = Prepared(move, dialect)

    def execute(
        self, connection: Connection, identities: Sequence[Identity], now: datetime
    ) -> int:
        """Return how many it moved."""
        names = self._names
        if self._has_arrays:
            given: Any = {
                "keys": [identity[0] for identity in identities],
                "moved_at": now,
            }
            return self._statement.execute(connection, names.of(given)).rowcount
        rows = [
            names.of(
                {
                    "moved_at": now,
                    **{f"pk_{n}": value for n, value in enumerate(identity)},
                }
            )
            for identity in identities
        ]
        return self._statement.execute(connection, rows).rowcount


@lru_cache(maxsize=256)
def move_to(records: RecordTable, target: str, dialect: Dialect) -> MoveTo:
    """Return what moves records to the state *target*."""
    return MoveTo(records, target, dialect)


def _is_listed(records: RecordTable, dialect: str) -> ColumnElement[bool]:
    columns = records.keys
    if _has_key_arrays(records, dialect):
        # the text stays the same, so it is prepared once
        return columns[0] == any_(
            bindparam(records.names["keys"], type_=array_of(columns[0]))
        )
    key = columns[0] if len(columns) == 1 else tuple_(*columns)
    return key.in_(bindparam(records.names["keys"], expanding=True))


def _has_key_arrays(records: RecordTable, dialect: str) -> bool:
    (first, *others) = records.keys
    return dialect == "postgresql" and not others and fits_array(first)

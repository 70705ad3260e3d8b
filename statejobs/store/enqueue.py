"""Puts jobs into the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, CursorResult

from statejobs.store.adopt import adopt_job
from statejobs.store.arrays import as_arrays
from statejobs.store.lock_order import job_order
from statejobs.store.upsert import (
    NEW_JOB_COLUMNS,
    enqueue_jobs,
    lock_records,
    names_of_locks,
)
from statejobs.values.job import Enqueued, EnqueueResult, JobState, NewJob


@dataclass(frozen=True, slots=True)
class Records:
    """Records to be locked before their jobs are."""

    columns: tuple[ColumnElement[Any], ...]
    """Of their primary key."""
    identities: Sequence[tuple[Any, ...]]

    @property
    def parameters(self) -> dict[str, Any]:
        """What a statement that locks them is given."""
        is_single = len(self.columns) == 1
        keys = (
            [key[0] for key in self.identities] if is_single else list(self.identities)
        )
        return {names_of_locks(self.columns)["record_keys"]: keys}


def enqueue(
    connection: Connection,
    new: Sequence[NewJob],
    *,
    former: Mapping[str, str] | None = None,
    records: Records | None = None,
) -> list[EnqueueResult]:
    """Insert *new* jobs on *connection* in one statement; results in the order given.

    What waits under one of the *former* dedupe keys goes on under that of today, to which they map.
    No two may have the same `dedupe_key`. Those of one trigger get their ids, and so run, in the
    order of their records' numbers. *records* that the transaction has not locked yet are locked
    by the same statement, before any job is.
    """
    if former:
        _adopt(connection, former, records)
    ordered = sorted(new, key=_order) if len(new) > 1 else new
    most = _MOST_ROWS if connection.dialect.name == "sqlite" else max(len(new), 1)
    found = [
        row
        for first in range(0, len(new), most)
        for row in _upsert(
            connection, [_row_of(job) for job in ordered[first : first + most]], records
        )
    ]
    by_key = {row.dedupe_key: row for row in found}
    if len(by_key) != len(found):
        return _match_rows(new, found)
    return [_result(by_key[job.dedupe_key]) for job in new]


def _order(job: NewJob) -> tuple[int, str]:
    return job_order(job.dedupe_key or "")


def _adopt(
    connection: Connection, former: Mapping[str, str], records: Records | None
) -> None:
    """Give jobs under *former* keys those of today; locks are taken as by an enqueue."""
    dialect = connection.dialect.name
    if records is not None and dialect == "postgresql":
        connection.execute(lock_records(records.columns, dialect), records.parameters)
    keys = sorted(former, key=job_order) if len(former) > 1 else former
    rows = [{"former_key": key, "present_key": former[key]} for key in keys]
    connection.execute(_ADOPT, rows)


def _upsert(
    connection: Connection, rows: Sequence[Mapping[str, Any]], records: Records | None
) -> CursorResult[Any]:
    dialect = connection.dialect.name
    if records is not None and dialect == "postgresql":
        constant, given = as_arrays(rows)
        statement = _enqueue(
            dialect, arrays=True, constant=constant, locks=records.columns
        )
        return connection.execute(statement, {**given, **records.parameters})
    if len(rows) == 1:
        return connection.execute(_enqueue(dialect), dict(rows[0]))
    if dialect == "postgresql":
        constant, given = as_arrays(rows)
        return connection.execute(
            _enqueue(dialect, arrays=True, constant=constant), given
        )
    # an executemany would return row by row
    return connection.execute(_enqueue(dialect).values([dict(row) for row in rows]))


@lru_cache(maxsize=256)
def _enqueue(
    dialect: str,
    *,
    arrays: bool = False,
    constant: frozenset[str] = frozenset(),
    locks: tuple[ColumnElement[Any], ...] = (),
) -> Any:
    return enqueue_jobs(dialect, arrays=arrays, constant=constant, locks=locks)


def _row_of(job: NewJob) -> dict[str, Any]:
    row = {name: getattr(job, name) for name in NEW_JOB_COLUMNS}
    row["state"] = job.state.value
    return row


def _match_rows(new: Sequence[NewJob], found: Sequence[Any]) -> list[EnqueueResult]:
    """Match rows without a dedupe key: each was inserted, in any order."""
    keyed = {row.dedupe_key: row for row in found if row.dedupe_key is not None}
    plain = iter(sorted((r for r in found if r.dedupe_key is None), key=lambda r: r.id))
    return [
        _result(keyed[j.dedupe_key] if j.dedupe_key is not None else next(plain))
        for j in new
    ]


def _result(row: Any) -> EnqueueResult:
    if row.coalesced == 0:
        outcome = Enqueued.INSERTED
    elif row.state == JobState.PROCESSING:
        outcome = Enqueued.RUN_AGAIN
    elif row.attempt > 0:
        outcome = Enqueued.RETRIED
    else:
        outcome = Enqueued.COALESCED
    return EnqueueResult(job_id=row.id, outcome=outcome)


_ADOPT = adopt_job()
_MOST_ROWS = 1000  # SQLite takes 32,766 parameters in a statement

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
    Meet,
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
        adopt(connection, former, records)
    ordered = sorted(new, key=in_order) if len(new) > 1 else new
    most = MOST_ROWS if connection.dialect.name == "sqlite" else max(len(new), 1)
    found = [
        row
        for first in range(0, len(new), most)
        for row in upsert(
            connection, [row_of(job) for job in ordered[first : first + most]], records
        )
    ]
    by_key = {row.dedupe_key: row for row in found}
    if len(by_key) != len(found):
        return _match_rows(new, found)
    return [result_of(by_key[job.dedupe_key]) for job in new]


def in_order(job: NewJob) -> tuple[int, str]:
    """Return what jobs are sorted by before they are inserted."""
    return job_order(job.dedupe_key or "")


def adopt(
    connection: Connection, former: Mapping[str, str], records: Records | None
) -> None:
    """Give jobs under *former* keys those of today; locks are taken as by an enqueue."""
    dialect = connection.dialect.name
    if records is not None and dialect == "postgresql":
        connection.execute(lock_records(records.columns, dialect), records.parameters)
    keys = sorted(former, key=job_order) if len(former) > 1 else former
    rows = [{"former_key": key, "present_key": former[key]} for key in keys]
    connection.execute(_ADOPT, rows)


def upsert(
    connection: Connection,
    rows: Sequence[Mapping[str, Any]],
    records: Records | None,
    meet: Meet | None = None,
) -> CursorResult[Any]:
    """Insert *rows*, or go on with the jobs that they meet, by one statement."""
    dialect = connection.dialect.name
    if records is not None and dialect == "postgresql":
        constant, given = as_arrays(rows)
        statement = _enqueue(
            dialect,
            arrays=True,
            constant=constant,
            locks=records.columns,
            meet=meet,
        )
        return connection.execute(statement, {**given, **records.parameters})
    if len(rows) == 1:
        return connection.execute(_enqueue(dialect, meet=meet), dict(rows[0]))
    if dialect == "postgresql":
        constant, given = as_arrays(rows)
        return connection.execute(
            _enqueue(dialect, arrays=True, constant=constant, meet=meet), given
        )
    # an executemany would return row by row
    statement = _enqueue(dialect, meet=meet)
    return connection.execute(statement.values([dict(row) for row in rows]))


@lru_cache(maxsize=256)
def _enqueue(
    dialect: str,
    *,
    arrays: bool = False,
    constant: frozenset[str] = frozenset(),
    locks: tuple[ColumnElement[Any], ...] = (),
    meet: Meet | None = None,
) -> Any:
    return enqueue_jobs(
        dialect, arrays=arrays, constant=constant, locks=locks, meet=meet
    )


def row_of(job: NewJob) -> dict[str, Any]:
    """Return a new job as a row."""
    row = {name: getattr(job, name) for name in NEW_JOB_COLUMNS}
    row["state"] = job.state.value
    return row


def _match_rows(new: Sequence[NewJob], found: Sequence[Any]) -> list[EnqueueResult]:
    """Match rows without a dedupe key: each was inserted, in any order."""
    keyed = {row.dedupe_key: row for row in found if row.dedupe_key is not None}
    plain = iter(sorted((r for r in found if r.dedupe_key is None), key=lambda r: r.id))
    return [
        result_of(keyed[j.dedupe_key] if j.dedupe_key is not None else next(plain))
        for j in new
    ]


def result_of(row: Any) -> EnqueueResult:
    """Return what became of a request, by the row of the job that serves it."""
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
MOST_ROWS = 1000  # SQLite takes 32,766 parameters in a statement

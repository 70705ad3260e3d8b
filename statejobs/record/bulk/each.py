"""Jobs that are made from their record: for them it is loaded, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from statejobs.record.identity import decode_identity
from statejobs.record.ledger import Step
from statejobs.record.model import ResourceModel
from statejobs.record.written import promised_job
from statejobs.store.bulk import MovedRow, RowWithJob, jobs_of_rows, rows_from_python
from statejobs.store.lock_order import job_order
from statejobs.store.record_rows import load_whole
from statejobs.values.graph import Promise
from statejobs.values.job import NewJob

AT_ONCE = 1_000
"""Records that are loaded with one query."""


def reads_records(model: ResourceModel, promise: Promise) -> bool:
    """Return whether the jobs of *promise* are made from their records, one by one."""
    return model.triggers[promise.key].options.of_record is not None


def jobs_of_each(
    connection: Connection,
    model: ResourceModel,
    promise: Promise,
    step: Step,
    moved: Sequence[MovedRow],
    *,
    salt: str,
) -> Iterator[Any]:
    """Yield what enqueues the job that *step* promises for each of *moved*, part by part.

    In the order in which jobs are locked. As a flush enqueues them, 10,000 took 9 times as long on
    SQLite.
    """
    dialect = connection.dialect.name
    prefix = model.triggers[promise.key].prefix
    ordered = sorted(moved, key=lambda row: job_order(row.record_id))
    for start in range(0, len(ordered), AT_ONCE):
        part = ordered[start : start + AT_ONCE]
        own = f"{salt}.{start}"
        made = make_jobs(connection, model, promise, step, part, salt=own)
        rows = rows_from_python(
            dialect,
            [RowWithJob(*row[:3], job.args, job.meta) for row, job in made],
        )
        first: Any = made[0][1]
        same = {**asdict(first), "state": first.state.value}
        yield jobs_of_rows(dialect, rows, same, key_prefix=prefix, salt=own)


def make_jobs(
    connection: Connection,
    model: ResourceModel,
    promise: Promise,
    step: Step,
    moved: Sequence[MovedRow],
    *,
    salt: str,
) -> list[tuple[MovedRow, NewJob]]:
    """Load the records of *moved*, as they are since their move, and make their jobs."""
    at = step.at
    assert at is not None  # noqa: S101 - a step of many is made now
    identities = [decode_identity(model.mapper, row.record_id) for row in moved]
    query = load_whole(model.cls, model.records, identities, connection.dialect.name)
    with Session(connection, autoflush=False) as session:
        found = {model.record_id(one): one for one in session.scalars(query).unique()}
        return [
            (
                row,
                promised_job(
                    model,
                    promise,
                    found[row.record_id],
                    row.record_id,
                    now=at,
                    ids=lambda: salt,
                    actor=model.actors.text_of(step.acting.actor),
                    tenant=step.acting.tenant,
                ),
            )
            for row in moved
        ]

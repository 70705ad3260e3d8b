"""Jobs of triggers that are `Unique`, for many records at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from statejobs.record.bulk.each import AT_ONCE, make_jobs, reads_records
from statejobs.record.bulk.rows import job_of_all
from statejobs.record.ledger import Step
from statejobs.record.model import ResourceModel
from statejobs.store.bulk import MovedRow
from statejobs.store.enqueue_unique import enqueue_unique
from statejobs.values.graph import Promise
from statejobs.values.job import Enqueued, NewJob


def is_unique(model: ResourceModel, promise: Promise) -> bool:
    """Return whether the trigger of *promise* is `Unique`."""
    return model.triggers[promise.key].options.unique is not None


def enqueue_unique_of_all(
    connection: Connection,
    model: ResourceModel,
    promise: Promise,
    step: Step,
    moved: Sequence[MovedRow],
    *,
    salt: str,
) -> Iterator[Enqueued]:
    """Enqueue the job that *step* promises for each of *moved*; yield what became of each."""
    unique = model.triggers[promise.key].options.unique
    assert unique is not None  # noqa: S101 - the caller has looked
    make = _from_records if reads_records(model, promise) else _alike
    new = [
        replace(job, idempotency_key=f"{salt}.{number}")
        for number, job in enumerate(
            make(connection, model, promise, step, moved, salt=salt)
        )
    ]
    for result in enqueue_unique(connection, new, unique):
        yield result.outcome


def _alike(
    _connection: Connection,
    model: ResourceModel,
    promise: Promise,
    step: Step,
    moved: Sequence[MovedRow],
    *,
    salt: str,
) -> Iterator[NewJob]:
    job = job_of_all(model, promise, step, salt=salt)
    prefix = model.triggers[promise.key].prefix
    for row in moved:
        key = f"{prefix}{row.record_id}"
        yield replace(job, record_id=row.record_id, dedupe_key=key)


def _from_records(
    connection: Connection,
    model: ResourceModel,
    promise: Promise,
    step: Step,
    moved: Sequence[MovedRow],
    *,
    salt: str,
) -> Iterator[NewJob]:
    for start in range(0, len(moved), AT_ONCE):
        part = moved[start : start + AT_ONCE]
        made = make_jobs(connection, model, promise, step, part, salt=salt)
        yield from (job for _, job in made)

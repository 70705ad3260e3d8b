"""Which records the ticks of a trigger pick, and what jobs they make of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.orm import Session

from statejobs.acting import Acting
from statejobs.record.candidates import candidates_of
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.record.written import new_job, promised_job
from statejobs.store.key_text import key_text, plain_text
from statejobs.store.pages import Picking
from statejobs.store.record_rows import load_whole
from statejobs.store.records import Identity
from statejobs.values.clock import IdSource
from statejobs.values.graph import Promise
from statejobs.values.job import JobState, NewJob

STEPS = 20
"""In so many the jobs of a tick become due that are spread over a time."""
AT_ONCE = 1_000
"""Records that are loaded with one query, where their jobs are made of them."""
_NOBODY = Acting(None, None, is_named=False)


def picking_of(model: ResourceModel, bound: BoundTrigger, dialect: Dialect) -> Picking:
    """Return which records of *model* the ticks of *bound* pick.

    Raises:
        BulkError: The database cannot make the text of such a key.
    """
    where = f"{model.cls.__name__}.{bound.name}"
    return Picking(
        candidates=candidates_of(model, bound),
        record_id=key_text(model.records.keys, dialect, where=where),
        prefix=bound.prefix,
        former_prefixes=bound.former_prefixes,
        is_unique=bound.options.unique is not None,
        tenant=_tenant_in_sql(model, dialect),
    )


def reads_records(model: ResourceModel, bound: BoundTrigger, dialect: Dialect) -> bool:
    """Return whether a job cannot be made without its record."""
    has_tenant = model.tenant_column is not None
    is_hidden = has_tenant and _tenant_in_sql(model, dialect) is None
    return bound.options.of_record is not None or is_hidden


def times_due(bound: BoundTrigger, now: datetime) -> list[datetime]:
    """Return when the jobs of a page run that is written *now*, in turn."""
    schedule = bound.schedule
    if schedule is None or schedule.spread is None:
        return [now]
    return [now + schedule.spread * step / STEPS for step in range(STEPS)]


def columns_of_all(
    model: ResourceModel,
    bound: BoundTrigger,
    *,
    now: datetime,
    tick_at: datetime,
    salt: str,
) -> dict[str, Any]:
    """Return what the jobs of all records share, by column."""
    given = bound.options.args or {}
    assert not callable(given)  # noqa: S101 - those are made of each record
    job = new_job(
        model,
        bound,
        "",
        args=bound.action.signature.encode_call((), dict(given)),
        now=now,
        run_at=now,
        ids=lambda: salt,
        actor=None,
        tenant=None,
    )
    return {**asdict(job), "state": job.state.value, "tick_at": tick_at}


def jobs_of_each(
    connection: Connection,
    model: ResourceModel,
    bound: BoundTrigger,
    identities: Sequence[Identity],
    *,
    now: datetime,
    tick_at: datetime,
    ids: IdSource,
) -> Iterator[NewJob | str]:
    """Yield the job of each record that is still there; or why none can be made of it."""
    due = times_due(bound, now)
    query = load_whole(model.cls, model.records, identities, connection.dialect.name)
    with Session(connection, autoflush=False) as session:
        for n, record in enumerate(session.scalars(query).unique()):
            try:
                job = _job_of(record, bound, now=now, ids=ids)
            except (DBAPIError, PendingRollbackError):
                raise  # the transaction is over
            except Exception as error:  # noqa: BLE001 - whatever a function of theirs raises
                yield f"{model.label(record)}: {type(error).__name__}: {error}"
            else:
                run_at = due[n % len(due)]
                state = JobState.SCHEDULED if run_at > now else JobState.QUEUED
                yield replace(job, tick_at=tick_at, run_at=run_at, state=state)


def _job_of(
    record: Any, bound: BoundTrigger, *, now: datetime, ids: IdSource
) -> NewJob:
    model: ResourceModel = type(record).__statejobs__
    return promised_job(
        model,
        Promise(bound.key),
        record,
        model.record_id(record),
        now=now,
        ids=ids,
        actor=None,
        tenant=model.tenant_of(record, _NOBODY),
    )


def _tenant_in_sql(model: ResourceModel, dialect: Dialect) -> Any:
    column = model.tenant_column
    return None if column is None else plain_text(column, dialect)

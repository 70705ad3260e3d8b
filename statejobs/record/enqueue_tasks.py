"""Makes the jobs of tasks on the caller's connection: each request has its own, unless `Unique`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from statejobs.acting import current_actor, current_tenant
from statejobs.errors import ArgumentsError
from statejobs.record.ledger import IDS, clock_of
from statejobs.record.specs import TaskSpec
from statejobs.record.unique_tasks import enqueue_unique_tasks
from statejobs.record.written import wake_after_commit
from statejobs.store.binds import connection_for_jobs
from statejobs.store.enqueue_alike import enqueue_alike
from statejobs.store.missing import explain_missing_tables
from statejobs.values.clock import random_id
from statejobs.values.job import Enqueued, EnqueueResult, JobState, NewJob
from statejobs.values.job_options import JobOptions
from statejobs.values.meta import stored_meta
from statejobs.values.unique import held_until


def enqueue_task(
    session: Session,
    task: TaskSpec,
    calls: Sequence[Mapping[str, Any]],
    *,
    chosen: JobOptions,
) -> list[EnqueueResult]:
    """Enqueue a job for each of *calls*; results in their order.

    Raises:
        ArgumentsError: Arguments that do not fit, or would not survive; nothing is written.
        DuplicateJobError: A job has the key of one, and the task is `Unique` and raises.
        ConfigurationError: The session does not say where jobs go.
        SchemaError: The tables of statejobs are missing.
    """
    ids = session.info.get(IDS, random_id)
    each = [(args, ids()) for args in _encoded(task, calls)]
    if not each:
        return []
    connection = connection_for_jobs(session)
    shared = _shared(session, task, chosen)
    with explain_missing_tables(connection):
        results = (
            _enqueue_each(connection, shared, each)
            if task.options.unique is None
            else enqueue_unique_tasks(connection, task, shared, each)
        )
    wake_after_commit(session, connection)
    return results


def _enqueue_each(
    connection: Connection, shared: NewJob, each: Sequence[tuple[str, str]]
) -> list[EnqueueResult]:
    """Enqueue a job for each of *each*."""
    return [
        EnqueueResult(job_id=job_id, outcome=Enqueued.INSERTED)
        for job_id in enqueue_alike(connection, shared, each)
    ]


def _shared(session: Session, task: TaskSpec, chosen: JobOptions) -> NewJob:
    """Return what all jobs of one request have in common."""
    now = clock_of(session.info).now()
    actor = task.actors.text_of(current_actor())
    return shared_job(task, chosen, now, actor=actor, tenant=current_tenant())


def shared_job(
    task: TaskSpec,
    chosen: JobOptions,
    now: datetime,
    *,
    actor: str | None = None,
    tenant: str | None = None,
) -> NewJob:
    """Return what jobs of *task* have in common that are asked for at once."""
    options = task.options
    run_at = chosen.due(now)
    most = chosen.max_attempts
    tags = options.tags if chosen.tags is None else chosen.tags
    meta = options.meta if chosen.meta is None else chosen.meta
    return NewJob(
        key=options.key,
        queue=options.queue if chosen.queue is None else chosen.queue,
        priority=options.priority if chosen.priority is None else chosen.priority,
        max_attempts=options.max_attempts if most is None else most,
        run_at=run_at,
        state=JobState.SCHEDULED if run_at > now else JobState.QUEUED,
        idempotency_key="",  # each has its own
        actor=options.default_actor if actor is None else actor,
        tenant=tenant,
        tags=msgspec.json.encode(list(tags)).decode(),
        meta=None if meta is None else stored_meta(meta, key=options.key),
        allowance=most,
        enqueued_at=now,
        unique_until=held_until(options.unique, now),
    )


def _encoded(task: TaskSpec, calls: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    signature = task.signature
    for number, values in enumerate(calls, start=1):
        try:
            yield signature.encode_call((), _names(task, values))
        except ArgumentsError as error:
            if len(calls) == 1:
                raise
            raise error.of_call(number, len(calls)) from error.__cause__


def _names(task: TaskSpec, values: object) -> Mapping[str, Any]:
    if isinstance(values, Mapping):
        return values
    raise ArgumentsError(
        task.name,
        "(all)",
        f"is {type(values).__name__}, not a mapping of names to values",
        fix="give a dict for each call",
    )

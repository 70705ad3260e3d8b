"""Makes the job of a tick, unless that of another tick lives."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from statejobs.record.enqueue_tasks import shared_job
from statejobs.record.specs import TaskSpec
from statejobs.record.unique_tasks import keyed_jobs
from statejobs.store.enqueue_unique import enqueue_unique
from statejobs.values.job import Enqueued, NewJob
from statejobs.values.job_options import AT_ONCE
from statejobs.values.timetable import Overlap
from statejobs.values.unique import Unique
from statejobs.values.unique_key import dedupe_key

_ONE_AT_A_TIME = Unique(by=())


def enqueue_tick(
    connection: Connection,
    task: TaskSpec,
    at: datetime,
    now: datetime,
    *,
    overlap: Overlap,
    job_id: str,
    actor: str | None = None,
) -> bool:
    """Enqueue the job of the tick of *task* at that instant; return whether there is one.

    There is none while that of another tick lives, unless *overlap* gives each its own; or while a
    job has the key that a `Unique` of the task gives it.
    """
    unique = _unique(task)
    args = task.signature.encode_call((), {})
    shared = replace(shared_job(task, AT_ONCE, now, actor=actor), tick_at=at)
    if task.unique_keys is not None:
        (job,), former = keyed_jobs(task, task.unique_keys, shared, [(args, job_id)])
    else:
        job, former = _keyed(task, replace(shared, args=args), at, overlap)
    job = replace(job, idempotency_key=job_id)
    (result,) = enqueue_unique(connection, [job], unique, former=former)
    return result.outcome is not Enqueued.DUPLICATE


def _unique(task: TaskSpec) -> Unique:
    """Return what a tick does while its key is held: it raises for nobody."""
    written = task.options.unique
    if written is None:
        return _ONE_AT_A_TIME
    raises = written.on_conflict == "raise"
    return replace(written, on_conflict="skip") if raises else written


def _keyed(
    task: TaskSpec, job: NewJob, at: datetime, overlap: Overlap
) -> tuple[NewJob, dict[str, str]]:
    """Return the *job* with its dedupe key, and its former ones."""
    shared = at.isoformat() if overlap == "queue" else "tick"
    key = dedupe_key(task.key, shared)
    former = {dedupe_key(alias, shared): key for alias in task.options.aliases}
    return replace(job, dedupe_key=key), former

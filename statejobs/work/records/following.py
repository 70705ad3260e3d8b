"""What follows when a job moves its record: the next jobs, and those that it leaves behind."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.record.written import promised_job
from statejobs.store.following import FollowUp
from statejobs.values.clock import IdSource
from statejobs.values.graph import DELETED, Promise
from statejobs.values.job import Job, NewJob
from statejobs.values.unique import Unique


def next_jobs(
    model: ResourceModel,
    promises: Iterable[Promise],
    record: object,
    job: Job,
    *,
    now: datetime,
    ids: IdSource,
) -> tuple[NewJob, ...]:
    """Return the jobs that are promised where *job* lands *record*; `args=` may read that."""
    return tuple(
        promised_job(
            model,
            promise,
            record,
            job.record_id or "",
            now=now,
            ids=ids,
            actor=job.actor,
            tenant=job.tenant,
        )
        for promise in promises
    )


def follow_up_of(
    model: ResourceModel,
    bound: BoundTrigger,
    record_id: str,
    *,
    left: Collection[str],
    target: str,
    jobs: tuple[NewJob, ...],
) -> FollowUp | None:
    """Return what follows when a job of *bound* moves a record from *left* to *target*.

    Args:
        model: Of the record.
        bound: The trigger.
        record_id: The key of the record.
        left: The states that it leaves.
        target: Where it comes to.
        jobs: What is promised there.
    """
    others = [b for b in model.triggers.values() if b.spec is not bound.spec]
    if target == DELETED:
        reason = f"its record was deleted by {bound.action.name}"
        return FollowUp(orphaned=dict.fromkeys(_keys(others, record_id), reason))
    # Those that are not for later are found stale as soon as they are claimed.
    behind = [
        other
        for other in others
        if other.key in model.later
        and target not in other.sources
        and not set(other.sources).isdisjoint(left)
    ]
    if not jobs and not behind:
        return None
    return FollowUp(
        jobs=jobs,
        unique=dict(_unique(model, jobs)),
        former=dict(_former(model, record_id, jobs)),
        left=dict.fromkeys(_keys(behind, record_id), f"left by {bound.action.name}"),
    )


def _keys(bound: Iterable[BoundTrigger], record_id: str) -> Iterator[str]:
    return (key for one in bound for key in one.dedupe_keys(record_id))


def _unique(
    model: ResourceModel, jobs: Iterable[NewJob]
) -> Iterator[tuple[str, Unique]]:
    for job in jobs:
        unique = model.triggers[job.key].options.unique
        if unique is not None:
            yield job.key, unique


def _former(
    model: ResourceModel, record_id: str, jobs: Iterable[NewJob]
) -> Iterator[tuple[str, str]]:
    for job in jobs:
        for prefix in model.triggers[job.key].former_prefixes:
            yield f"{prefix}{record_id}", job.dedupe_key or ""

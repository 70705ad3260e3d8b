"""What people ask about jobs; no answer shows a secret."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from statejobs.errors import did_you_mean
from statejobs.people.acts import why_no_retry
from statejobs.people.desk import Desk
from statejobs.people.history import ShownAttempt, ShownStep, attempts_of, steps_of_job
from statejobs.people.obstacles import why_paused
from statejobs.people.selection import Selection, select_jobs
from statejobs.people.workers import serving
from statejobs.values.job import WAITING, Job, JobOutcome, JobState
from statejobs.values.redaction import Redaction
from statejobs.values.shown import decoded, shown_job
from statejobs.values.text import NAME_LIMIT, shown_text


@dataclass(frozen=True, kw_only=True)
class ShownJob:
    """A job as it may be shown."""

    id: int
    key: str
    queue: str
    priority: int
    state: JobState
    outcome: JobOutcome | None
    """How it ended; None while it lives, and of one that a worker of before outcomes ended."""
    reason: str | None
    """Why it is in its state."""
    resource: str | None
    record_id: str | None
    args: Any
    tags: Any
    meta: Any
    actor: str | None
    tenant: str | None
    attempt: int
    max_attempts: int
    crashes: int
    snoozes: int
    cancel_requested: bool
    run_again: bool
    progress: Any
    idempotency_key: str
    node: str | None
    enqueued_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    lease_until: datetime | None
    unique_until: datetime | None
    """Until when its key is held, though it has completed."""

    @property
    def record_name(self) -> str:
        """How people call its record."""
        return f"{self.resource} {self.record_id}" if self.resource else ""

    @property
    def may_be_retried(self) -> bool:
        """Whether a person may want it to go on."""
        return self.state in {JobState.DISCARDED, JobState.CANCELLED, JobState.FAILED}


@dataclass(frozen=True, kw_only=True)
class ListedJob(ShownJob):
    """One of many."""

    error: str | None
    """What its last attempt raised, if the job has not completed, on a line."""


@dataclass(frozen=True, kw_only=True)
class JobList:
    """The newest jobs that match."""

    jobs: tuple[ListedJob, ...]
    has_more: bool


@dataclass(frozen=True, kw_only=True)
class JobPage:
    """Everything about one job."""

    job: ShownJob
    attempts: tuple[ShownAttempt, ...]
    history: tuple[ShownStep, ...]
    """Of its record."""
    result: Any
    """What its task returned."""
    obstacle: str | None
    """Why it will not run by itself although it waits."""
    no_retry: str | None
    """Why a retry would be refused."""


def job_list(desk: Desk, *, selected: Selection | None = None, limit: int) -> JobList:
    """Return the newest jobs of those that are *selected*; else of all."""
    meant = selected or select_jobs(desk)
    found = meant.sample(limit + 1)
    listed = [as_shown(job, desk.redaction) for job in found[:limit]]
    return JobList(jobs=with_errors(desk, listed), has_more=len(found) > limit)


def job_page(desk: Desk, job: Job) -> JobPage:
    """Return everything about *job*."""
    shown = as_shown(job, desk.redaction)
    return JobPage(
        job=shown,
        attempts=attempts_of(desk, job.id),
        history=steps_of_job(desk, job),
        result=decoded(shown_job(job, desk.redaction).result),
        obstacle=_why_paused(desk, job) or _why_unserved(desk, job),
        no_retry=why_no_retry(desk, job.id) if shown.may_be_retried else None,
    )


def with_errors(desk: Desk, jobs: Sequence[ShownJob]) -> tuple[ListedJob, ...]:
    """Return *jobs*, each with what its last attempt raised."""
    waits = [
        job.id for job in jobs if job.state is not JobState.COMPLETED and job.attempt
    ]
    errors = desk.queries.last_errors(waits)
    lines = {id_: _line(*error, desk.redaction) for id_, error in errors.items()}
    return tuple(ListedJob(**vars(job), error=lines.get(job.id)) for job in jobs)


def all_shown(desk: Desk, jobs: Iterable[Job]) -> tuple[ShownJob, ...]:
    """Return *jobs* as they may be shown."""
    return tuple(as_shown(job, desk.redaction) for job in jobs)


def as_shown(stored: Job, redaction: Redaction) -> ShownJob:
    """Return a stored job as it may be shown."""
    job = shown_job(stored, redaction)
    return ShownJob(
        id=job.id,
        key=job.key,
        queue=job.queue,
        priority=job.priority,
        state=job.state,
        outcome=job.outcome,
        reason=_reason_of(job),
        resource=job.resource,
        record_id=job.record_id,
        args=decoded(job.args),
        tags=decoded(job.tags),
        meta=job.meta,
        actor=job.actor,
        tenant=job.tenant,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        crashes=job.crashes,
        snoozes=job.snoozes,
        cancel_requested=job.cancel_requested,
        run_again=job.run_again,
        progress=decoded(job.progress),
        idempotency_key=job.idempotency_key,
        node=job.owner,
        enqueued_at=job.enqueued_at,
        run_at=job.run_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        lease_until=job.lease_until,
        unique_until=job.unique_until,
    )


def _reason_of(job: Job) -> str | None:
    """Return the reason of *job* for the state it is in; a running one still has its last."""
    is_running = job.state is JobState.PROCESSING and job.owner is not None
    is_old = is_running and not job.cancel_requested
    return None if is_old else job.reason


def _why_paused(desk: Desk, job: Job) -> str | None:
    """Say that no worker of this code takes a waiting *job*, since its key is declared so."""
    if job.state not in WAITING or job.key not in desk.registry.paused_keys():
        return None
    return why_paused(job.key)


def _why_unserved(desk: Desk, job: Job) -> str | None:
    """Say that no worker will take a waiting *job* that is due, or any of its queue."""
    is_ours = job.queue in desk.queues
    if job.state not in WAITING or (is_ours and job.run_at > desk.now()):
        return None
    who = serving(desk, job.queue)
    if who.takes(job.key):
        return None
    if who.workers:
        return (
            f"no worker of queue {job.queue!r} claims jobs of {job.key!r}: "
            "start one of its domain, or without --domain"
        )
    if is_ours:
        return f"no worker serves queue {job.queue!r}: start one with  statejobs worker"
    hint = did_you_mean(job.queue, desk.queues)
    return f"no worker of this app serves queue {job.queue!r}; {hint}"


def _line(kind: str, message: str, redaction: Redaction) -> str:
    lines = message.strip().splitlines()
    return shown_text(f"{kind}: {lines[0]}" if lines else kind, NAME_LIMIT, redaction)

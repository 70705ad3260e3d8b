"""A job at rest, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any


class JobState(StrEnum):
    """Where a job is in its life."""

    SCHEDULED = "scheduled"
    """Waits for its time."""
    QUEUED = "queued"
    """May be claimed now."""
    PROCESSING = "processing"
    """A worker holds it, until its lease ends."""
    FAILED = "failed"
    """The last attempt failed; a retry is due at `run_at`."""
    COMPLETED = "completed"
    """Ended well."""
    CANCELLED = "cancelled"
    """Stopped by decision: by a person, by the action, or because the work went stale."""
    DISCARDED = "discarded"
    """Gave up: attempts or crashes are used up."""


WAITING = (JobState.SCHEDULED, JobState.QUEUED, JobState.FAILED)
"""States in which a job waits for a worker."""
LIVE = (*WAITING, JobState.PROCESSING)
"""States from which a job goes on by itself."""
ENDED = (JobState.COMPLETED, JobState.CANCELLED, JobState.DISCARDED)
"""States in which a job rests for good, unless a person retries it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job about to be stored."""

    key: str
    queue: str
    priority: int
    max_attempts: int
    run_at: datetime
    args: str = "{}"
    state: JobState = JobState.QUEUED
    resource: str | None = None
    record_id: str | None = None
    dedupe_key: str | None = None
    idempotency_key: str
    actor: str | None = None
    tenant: str | None = None
    tags: str = "[]"
    enqueued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One stored request to run one trigger."""

    id: int
    key: str
    queue: str
    priority: int
    state: JobState
    run_at: datetime
    args: str
    resource: str | None
    record_id: str | None
    record_source: str | None
    """State of the record when the job was last claimed."""
    dedupe_key: str | None
    idempotency_key: str
    actor: str | None
    tenant: str | None
    tags: str
    attempt: int
    """Attempts begun so far; counted at claim."""
    max_attempts: int
    crashes: int
    """Attempts that ended with their worker; they count as attempts too."""
    coalesced: int
    """How often it was enqueued again while it waited or ran."""
    run_again: bool
    lease_until: datetime | None
    owner: str | None
    token: str | None
    cancel_requested: bool
    progress: str | None
    checkpoint: str | None
    enqueued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    returned: int
    """Attempts in a row that a fault of the database, not of the action, made undone."""

    @property
    def is_last_attempt(self) -> bool:
        """Whether no attempt is left after the present one."""
        return self.attempt >= self.max_attempts

    @property
    def is_suspect(self) -> bool:
        """Whether a worker died while it held this job, so that the job may have killed it."""
        return self.crashes > 0


JOB_FIELDS = tuple(field.name for field in fields(Job))
_SETTERS = {name: vars(Job)[name].__set__ for name in JOB_FIELDS}
_values_of = attrgetter(*JOB_FIELDS)


def job_from(values: Sequence[Any]) -> Job:
    """Return a job with *values*, in the order of its fields.

    The constructor of a frozen class takes five times as long, and a claim makes many.
    """
    job = object.__new__(Job)
    for set_value, value in zip(_SETTERS.values(), values, strict=True):
        set_value(job, value)
    return job


def changed(job: Job, **changes: Any) -> Job:
    """Return a copy of *job* with *changes*, as `dataclasses.replace` does, only faster."""
    copy = job_from(_values_of(job))
    for name, value in changes.items():
        _SETTERS[name](copy, value)
    return copy


class Enqueued(StrEnum):
    """What became of a request to run a job."""

    INSERTED = "inserted"
    """A new job waits."""
    COALESCED = "coalesced"
    """A job for this record was waiting already; it now carries these arguments and time."""
    RUN_AGAIN = "run_again"
    """A job for this record is running; it runs once more when that attempt ends."""
    RETRIED = "retried"
    """An ended job of this record goes on, with its attempts and its idempotency key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueResult:
    """The job that serves a request, and how."""

    job_id: int
    outcome: Enqueued


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResult:
    """How many records a bulk transition moved, and what became of their jobs."""

    moved: int
    """Records."""
    inserted: int = 0
    """New jobs."""
    coalesced: int = 0
    """Jobs that were waiting already."""
    run_again: int = 0
    """Running jobs that will run once more."""
    retried: int = 0
    """Ended jobs that go on."""

"""A job at rest, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct


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


class JobOutcome(StrEnum):
    """How a job ended; a job has none while it lives, nor once it is revived."""

    COMPLETED = "completed"
    """Its action returned."""
    FAILED = "failed"
    """Its attempts or snoozes are used up, or its row cannot be read."""
    CRASHED = "crashed"
    """It was given up after a crash: its worker died, once too often or in the last attempt."""
    CANCELLED = "cancelled"
    """A person stopped it, or its action by `Cancel`."""
    LEFT = "left"
    """Its record left the state that promised it, before an attempt."""
    STALE = "stale"
    """Its record needs it no longer: it is gone, is elsewhere, a guard or `Stale` says so."""
    SUPERSEDED = "superseded"
    """Somebody moved its record away while it ran."""

    @property
    def state(self) -> JobState:
        """The state of jobs that ended so."""
        return _ENDS_IN[self]


OutcomeName = Literal[
    "completed", "failed", "crashed", "cancelled", "left", "stale", "superseded"
]
"""The same as text, so that type checkers see a wrong one."""

_ENDS_IN = {
    JobOutcome.COMPLETED: JobState.COMPLETED,
    JobOutcome.FAILED: JobState.DISCARDED,
    JobOutcome.CRASHED: JobState.DISCARDED,
    JobOutcome.CANCELLED: JobState.CANCELLED,
    JobOutcome.LEFT: JobState.CANCELLED,
    JobOutcome.STALE: JobState.CANCELLED,
    JobOutcome.SUPERSEDED: JobState.CANCELLED,
}

WAITING = (JobState.SCHEDULED, JobState.QUEUED, JobState.FAILED)
"""States in which a job waits for a worker."""
LIVE = (*WAITING, JobState.PROCESSING)
"""States from which a job goes on by itself."""
ENDED = (JobState.COMPLETED, JobState.CANCELLED, JobState.DISCARDED)
"""States in which a job rests for good, unless a person retries it."""

GAVE_UP = (JobState.CANCELLED, JobState.DISCARDED)
"""States in which a job has ended without having done its work."""


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
    meta: str | None = None
    """JSON for programs."""
    allowance: int | None = None
    """Its `max_attempts`, where its enqueue chose them; None: those of its trigger or task."""
    enqueued_at: datetime
    unique_until: datetime | None = None
    """Until when its key is held, though it has completed."""
    tick_at: datetime | None = None
    """The tick that made it; None when anybody else asked for it."""


class Job(Struct, frozen=True, gc=False):
    """One stored request to run one trigger; a claim makes many.

    A `msgspec.Struct`, whose constructor takes a tenth of a dataclass's: copy it with
    `msgspec.structs.replace`. Its fields are the columns of a row, in their order.
    """

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
    meta: dict[str, Any]
    """For programs: what was stored with it as JSON."""
    unique_until: datetime | None
    """Until when its key is held, though it has completed."""
    outcome: JobOutcome | None
    """How it ended; None while it lives."""
    snoozes: int
    """How often it asked to run later, by `Snooze`, since it was enqueued or revived."""
    result: str | None
    """What its task returned, as JSON."""
    allowance: int | None
    """Attempts of one life, where its enqueue chose them; None: as its trigger or task says."""
    tick_at: datetime | None
    """The tick that made it; None once anybody else has asked for it."""

    @property
    def is_last_attempt(self) -> bool:
        """Whether no attempt is left after the present one."""
        return self.attempt >= self.max_attempts

    @property
    def is_suspect(self) -> bool:
        """Whether a worker died while it held this job, so that the job may have killed it."""
        return self.crashes > 0


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
    DUPLICATE = "duplicate"
    """A job has its key, which is `Unique`, and is kept as it was; no job was made."""
    REPLACED = "replaced"
    """A job that waits has its key, which is `Unique`, and took over what `replace` names."""


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
    duplicate: int = 0
    """Jobs that have a key which is `Unique`, and are kept as they were."""
    replaced: int = 0
    """Jobs that wait, and took over what `Unique` names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkDryRun:
    """What a bulk transition would do."""

    moved: int
    """Records that would move."""
    refused: Mapping[str, int]
    """Guard or permission → records in a source that match, to which it says no."""
    enqueued: Mapping[str, Mapping[str, int]]
    """Key of a trigger → what would become of its jobs, as in `BulkResult`, without zeros."""

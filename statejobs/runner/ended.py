"""How an attempt ended, as its caller and its worker are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from statejobs.values.failure import Failure
from statejobs.values.job import Job, JobOutcome, JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a claim ended."""

    job: Job
    outcome: str
    """Name of the edge that the job took, or `late`."""
    state: JobState | None
    """Where the job is now; None when the result came too late."""
    job_outcome: JobOutcome | None = None
    """How the job ended; None when it goes on."""
    reason: str | None = None
    """Why, for all but success."""
    run_at: datetime | None = None
    """When it runs again, after a failure or a snooze."""
    failure: Failure | None = None
    """What went wrong as text, traceback included, when the attempt failed."""
    error: BaseException | None = field(default=None, repr=False, compare=False)
    """What was raised."""

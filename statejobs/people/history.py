"""What happened to a job and to a record: attempts that did not complete, and steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from statejobs.people.desk import Desk
from statejobs.values.job import Job
from statejobs.values.shown import decoded, shown_row


@dataclass(frozen=True, kw_only=True)
class ShownAttempt:
    """One that did not complete."""

    job_id: int
    attempt: int
    outcome: str
    error_type: str | None
    message: str | None
    traceback: str | None
    node: str | None
    started_at: datetime | None
    finished_at: datetime


@dataclass(frozen=True, kw_only=True)
class ShownStep:
    """A transition in the history of a record."""

    at: datetime
    name: str
    source: str | None
    target: str
    version: int
    actor: str | None
    tenant: str | None
    job_id: int | None
    attempt: int | None
    args: Any
    reason: str | None
    duration_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class TimelineEntry:
    """What happened to a record, and when."""

    kind: Literal["attempt", "transition"]
    at: datetime


# Of several bases the last has the first fields: an entry begins with its kind and its time.
@dataclass(frozen=True, kw_only=True)
class AttemptEntry(ShownAttempt, TimelineEntry):
    """An attempt of a job on the record, at its end."""


@dataclass(frozen=True, kw_only=True)
class StepEntry(ShownStep, TimelineEntry):
    """A step of the record."""


def attempts_of(desk: Desk, job_id: int) -> tuple[ShownAttempt, ...]:
    """Return the attempts of a job that did not complete, oldest first."""
    rows = desk.queries.attempts(job_id)
    return tuple(_attempt(shown_row(row, desk.redaction)) for row in rows)


def steps_of(desk: Desk, resource: str, record_id: str) -> tuple[ShownStep, ...]:
    """Return the history of a record, oldest first."""
    return _steps(desk, desk.queries.transitions(resource, record_id))


def steps_of_job(desk: Desk, job: Job) -> tuple[ShownStep, ...]:
    """Return the history of the record of *job*, oldest first; the app may know neither."""
    return _steps(desk, desk.queries.steps(job))


def timeline(
    desk: Desk, resource: str, record_id: str, jobs: Iterable[Job]
) -> tuple[AttemptEntry | StepEntry, ...]:
    """Return what happened to a record, oldest first: its steps, and failed attempts of *jobs*."""
    attempts = [attempt for job in jobs for attempt in attempts_of(desk, job.id)]
    failed = deque(sorted(attempts, key=lambda attempt: attempt.finished_at))
    entries: list[AttemptEntry | StepEntry] = []
    # Steps stay in the order of their rows: the clocks of several machines may disagree.
    for step in steps_of(desk, resource, record_id):
        while failed and failed[0].finished_at < step.at:
            entries.append(_of_attempt(failed.popleft()))
        entries.append(StepEntry(kind="transition", **vars(step)))
    return (*entries, *map(_of_attempt, failed))


def _of_attempt(attempt: ShownAttempt) -> AttemptEntry:
    return AttemptEntry(kind="attempt", at=attempt.finished_at, **vars(attempt))


def _attempt(row: Mapping[str, Any]) -> ShownAttempt:
    return ShownAttempt(
        job_id=row["job_id"],
        attempt=row["attempt"],
        outcome=row["outcome"],
        error_type=row["error_type"],
        message=row["message"],
        traceback=row["traceback"],
        node=row["node"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )


def _steps(desk: Desk, rows: Iterable[Mapping[str, Any]]) -> tuple[ShownStep, ...]:
    return tuple(_step(shown_row(row, desk.redaction)) for row in rows)


def _step(row: Mapping[str, Any]) -> ShownStep:
    return ShownStep(
        at=row["at"],
        name=row["name"],
        source=row["source"],
        target=row["target"],
        version=row["version"],
        actor=row["actor"],
        tenant=row["tenant"],
        job_id=row["job_id"],
        attempt=row["attempt"],
        args=decoded(row["args"]),
        reason=row["reason"],
        duration_seconds=row["duration"],
    )

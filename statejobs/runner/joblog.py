"""One line of the log for each attempt, whoever runs the worker."""

from __future__ import annotations

import logging
from datetime import datetime

from statejobs.events import Happening, JobEnded, JobStale
from statejobs.values.clock import utcnow
from statejobs.values.job import JobOutcome, JobState
from statejobs.values.moments import iso, relative
from statejobs.values.visible import visible_line

FIELDS = "statejobs"
"""Attribute of a log record under which the fields of a job are; JSON lines show them."""
log = logging.getLogger("statejobs.jobs")


def log_event(happening: Happening) -> None:
    """Log how attempts end, and which jobs are cancelled before one, and why."""
    match happening:
        case JobEnded():
            _log_end(happening)
        case JobStale(job_id=job_id, reason=reason):
            stale = JobOutcome.STALE
            fields = {"outcome": stale, "job_outcome": stale, "reason": reason}
            shown = visible_line(str(reason))
            log.info(
                "job %s: cancelled, since it is stale: %s",
                job_id,
                shown,
                extra={FIELDS: {"job_id": job_id, **fields}},
            )
        case _:
            pass


def _log_end(end: JobEnded) -> None:
    job = end.job
    usual = logging.INFO
    if not end.is_overtaken:
        usual = _LEVELS.get((end.outcome, end.job_outcome), logging.INFO)
    level = usual if end.log_level is None else end.log_level
    if not log.isEnabledFor(level):
        return
    record = f" ({job.resource} {job.record_id})" if job.resource else ""
    log.log(
        level,
        "job %s %s%s, attempt %s of %s%s: %s",
        job.id,
        job.key,
        record,
        job.attempt,
        job.max_attempts,
        _took(end.duration),
        visible_line(_ending(end)),
        extra={FIELDS: _job_fields(end)},
    )


_LEVELS = {
    ("fail", None): logging.WARNING,
    ("discard", None): logging.ERROR,
    ("discard", JobOutcome.FAILED): logging.ERROR,
    ("discard", JobOutcome.CRASHED): logging.ERROR,
    ("cancel", JobOutcome.CANCELLED): logging.WARNING,
    ("cancel", JobOutcome.SUPERSEDED): logging.WARNING,
}
"""Edge and end of the job → how loudly it is told; what is stale or goes on needs nobody's look."""
_WORDS = {
    "complete": "completed",
    "fail": "failed",
    "discard": "discarded",
    "cancel": "cancelled",
    "snooze": "snoozed",
    "give_back": "given back",
    "release": "given back",
    "rescue": "rescued",
}


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f" ({seconds:.3f} s)"


def _ending(end: JobEnded) -> str:
    """Return `failed: ValueError: card declined; again in 15 s`."""
    reason = end.reason
    run_at = end.run_at
    if end.failure is not None:
        reason = end.failure.cause
    ending = _WORDS.get(end.outcome, end.outcome)
    again = f"; again {_soon(run_at)}" if run_at else ""
    if run_at and end.state is JobState.PROCESSING:
        again = f"; that move is tried again {_soon(run_at)}"
    reason = reason and reason.removeprefix(f"{ending}: ")
    return f"{ending}: {reason}{again}" if reason else f"{ending}{again}"


def _soon(run_at: datetime) -> str:
    """Return when it is due again; the moment may have come before its line is written."""
    now = utcnow()
    return relative(run_at, now) if run_at > now else "at once"


def _job_fields(end: JobEnded) -> dict[str, object]:
    job = end.job
    failure = end.failure
    return {
        "job_id": job.id,
        "key": job.key,
        "queue": job.queue,
        "resource": job.resource,
        "record_id": job.record_id,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "outcome": end.outcome,
        "state": end.state,
        "job_outcome": end.job_outcome,
        "duration_seconds": end.duration,
        "reason": end.reason,
        "error_type": failure.error_type if failure else None,
        "error_message": failure.message if failure else None,
        "run_at": iso(end.run_at),
    }

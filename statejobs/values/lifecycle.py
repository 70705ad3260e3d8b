"""The life of a job: its graph as data, and the decision that ends an attempt.

The graph is the same kind of value as the machine of a resource, so one kernel checks it and one
diagram draws it. `settle` is the whole retry policy; it needs no database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from statejobs.values.backoff import LONGEST
from statejobs.values.graph import Edge, MachineSpec
from statejobs.values.job import Job, JobOutcome, JobState
from statejobs.values.outcome import (
    Cancel,
    Complete,
    Crash,
    Fail,
    GiveBack,
    Late,
    Outcome,
    Release,
    Snooze,
    Stale,
    Superseded,
)
from statejobs.values.text import REASON_LIMIT, clean_text

J = JobState

MOST_RETURNS = 10
"""Attempts in a row that the database may fail; the next counts, or a deadlock would go on."""
_FIRST_RETURN = timedelta(seconds=0.1)
_LONGEST_RETURN = timedelta(seconds=30)


def _edge(name: str, sources: tuple[JobState, ...], target: JobState, doc: str) -> Edge:
    return Edge(
        name=name, sources=tuple(s.value for s in sources), target=target.value, doc=doc
    )


JOB_MACHINE = MachineSpec(
    name="job",
    states=tuple(state.value for state in JobState),
    initial=J.QUEUED.value,
    edges=(
        _edge("stage", (J.SCHEDULED,), J.QUEUED, "Its time has come."),
        _edge("retry", (J.FAILED,), J.QUEUED, "The wait after a failure is over."),
        _edge(
            "claim", (J.QUEUED,), J.PROCESSING, "A worker takes it; the attempt counts."
        ),
        _edge(
            "postpone", (J.QUEUED,), J.SCHEDULED, "It cannot be taken now; soon again."
        ),
        _edge(
            "defer",
            (J.QUEUED, J.FAILED, J.PROCESSING, J.CANCELLED, J.DISCARDED),
            J.SCHEDULED,
            "It was enqueued again, for later.",
        ),
        _edge("complete", (J.PROCESSING,), J.COMPLETED, "The action returned."),
        _edge(
            "fail",
            (J.PROCESSING, J.QUEUED),
            J.FAILED,
            "The action raised, or its claim did; attempts are left.",
        ),
        _edge("snooze", (J.PROCESSING,), J.SCHEDULED, "The action asked for later."),
        _edge(
            "give_back",
            (J.PROCESSING,),
            J.SCHEDULED,
            "The database failed it; does not count.",
        ),
        _edge(
            "release",
            (J.PROCESSING,),
            J.QUEUED,
            "The worker stops; attempt given back.",
        ),
        _edge(
            "rescue", (J.PROCESSING,), J.QUEUED, "The lease ran out; attempts are left."
        ),
        _edge("run_again", (J.PROCESSING,), J.QUEUED, "It was enqueued while it ran."),
        _edge(
            "discard",
            (J.PROCESSING, J.QUEUED),
            J.DISCARDED,
            "Attempts, crashes or snoozes are used up, or its row cannot be read.",
        ),
        _edge(
            "cancel",
            (J.SCHEDULED, J.QUEUED, J.FAILED, J.PROCESSING),
            J.CANCELLED,
            "Stopped by decision, or stale.",
        ),
        _edge(
            "revive",
            (J.COMPLETED, J.CANCELLED, J.DISCARDED),
            J.QUEUED,
            "Asked for again by a person or a transition.",
        ),
    ),
)


class Landing(StrEnum):
    """Where the record goes with the outcome of its job."""

    TARGET = "target"
    SOURCE = "source"
    FAILED = "failed"
    STAY = "stay"
    """Someone else moved it: untouched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What an outcome does to a job and to its record."""

    edge: str
    """Name of the job's edge in `JOB_MACHINE`."""
    state: JobState
    landing: Landing
    attempt: int
    crashes: int
    snoozes: int
    outcome: JobOutcome | None = None
    """How the job ended; None when it goes on."""
    returned: int = 0
    """Attempts in a row that were given back; any other outcome ends the row."""
    run_at: datetime | None = None
    """When to run next; None leaves the time as it was."""
    reason: str | None = None
    is_overtaken: bool = False
    """Whether a declared move took the record away: a normal end, of which nobody is warned."""

    @property
    def is_ended(self) -> bool:
        """Whether the job rests for good."""
        return self.outcome is not None


def backoff_step(job: Job, allowance: int) -> int:
    """Return which wait of the backoff is due after a failed attempt, from 1 on.

    A retry by a person raises the ceiling and begins the waits anew, so the step is counted from
    the attempts that are left, not from the attempts that were made.

    Args:
        job: The job, its present attempt counted.
        allowance: Its own `max_attempts`, or the trigger's.
    """
    return max(1, allowance - (job.max_attempts - job.attempt))


STUCK = "stuck: "
"""How the reason of a job begins that was given up because nobody could move its record."""


def gives_up(
    *, attempt: int, max_attempts: int, crashes: int, max_crashes: int
) -> bool:
    """Return whether a job that has just crashed is not run again, the crash counted."""
    return crashes >= max_crashes or attempt >= max_attempts


def counted(job: Job, outcome: Outcome) -> Outcome:
    """Return *outcome*, as a failure where the database has failed *job* too often in a row."""
    if isinstance(outcome, GiveBack) and job.returned >= MOST_RETURNS:
        return Fail(failure=outcome.failure, error=outcome.error)
    return outcome


def settle(  # noqa: C901, PLR0911, PLR0912 - one match over the closed set is the whole policy
    job: Job,
    outcome: Outcome,
    *,
    now: datetime,
    wait: timedelta,
    max_crashes: int,
    max_snoozes: int,
) -> Settlement:
    """Decide what *outcome* does to *job*, which is processing.

    Args:
        job: The claimed job; its `attempt` includes the present one.
        outcome: How the attempt ended, as `counted` returned it.
        now: The time of the decision.
        wait: The backoff before the next attempt, used when *outcome* is `Fail`.
        max_crashes: Crashes after which a job is quarantined.
        max_snoozes: Snoozes after which one more discards it.
    """

    def to(edge: str, landing: Landing, **changes: object) -> Settlement:
        values: dict[str, object] = {
            "attempt": job.attempt,
            "crashes": job.crashes,
            "snoozes": job.snoozes,
            **changes,
        }
        if (reason := changes.get("reason")) is not None:
            values["reason"] = clean_text(reason, REASON_LIMIT)
        return Settlement(edge=edge, landing=landing, state=_target(edge), **values)  # type: ignore[arg-type]

    match outcome:
        case Complete():
            return to("complete", Landing.TARGET, outcome=JobOutcome.COMPLETED)
        case Fail(failure=failure) if job.is_last_attempt:
            return to(
                "discard",
                Landing.FAILED,
                outcome=JobOutcome.FAILED,
                reason=f"failed: {failure.cause}",
            )
        case Fail(failure=failure):
            return to("fail", Landing.SOURCE, run_at=now + wait, reason=failure.cause)
        case GiveBack(failure=failure):
            return to(
                "give_back",
                Landing.SOURCE,
                attempt=job.attempt - 1,
                returned=job.returned + 1,
                run_at=now + _wait_of_return(job.returned),
                reason=f"given back: {failure.cause}",
            )
        case Crash(reason=reason):
            return _after_crash(job, reason, max_crashes)
        case Snooze() if job.snoozes >= max_snoozes:
            return to(
                "discard",
                Landing.FAILED,
                attempt=job.attempt - 1,
                outcome=JobOutcome.FAILED,
                reason=f"snoozed {job.snoozes} time{'s' * (job.snoozes != 1)}",
            )
        case Snooze(delay=delay, reason=reason):
            return to(
                "snooze",
                Landing.SOURCE,
                attempt=job.attempt - 1,
                snoozes=job.snoozes + 1,
                run_at=now + min(delay, LONGEST),
                reason=reason,
            )
        case Release(reason=reason):
            return to("release", Landing.SOURCE, attempt=job.attempt - 1, reason=reason)
        case Cancel(reason=reason):
            return to(
                "cancel", Landing.FAILED, outcome=JobOutcome.CANCELLED, reason=reason
            )
        case Stale(reason=reason):
            return to(
                "cancel",
                Landing.SOURCE,
                attempt=job.attempt - 1,
                outcome=JobOutcome.STALE,
                reason=f"stale: {reason}",
            )
        case Superseded(reason=reason, is_declared=declared):
            return to(
                "cancel",
                Landing.STAY,
                outcome=JobOutcome.SUPERSEDED,
                reason=f"superseded: {reason}",
                is_overtaken=declared,
            )
        case Late():
            raise ValueError("what comes too late settles nothing")
        case _:
            assert_never(outcome)


def _after_crash(job: Job, reason: str, max_crashes: int) -> Settlement:
    crashes = job.crashes + 1
    gave_up = gives_up(
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        crashes=crashes,
        max_crashes=max_crashes,
    )
    edge = "discard" if gave_up else "rescue"
    return Settlement(
        edge=edge,
        state=_target(edge),
        landing=Landing.FAILED if gave_up else Landing.SOURCE,
        attempt=job.attempt,
        crashes=crashes,
        snoozes=job.snoozes,
        outcome=JobOutcome.CRASHED if gave_up else None,
        reason=reason,
    )


def _wait_of_return(returned: int) -> timedelta:
    doubled: int = 2 ** min(returned, MOST_RETURNS)
    return min(_FIRST_RETURN * doubled, _LONGEST_RETURN)


def _target(edge: str) -> JobState:
    return JobState(JOB_MACHINE.edge(edge).target)

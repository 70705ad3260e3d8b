"""What an act did to many jobs: how many were done, refused and why, or held by others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from statejobs.errors import StateJobsError, TransitionRefusedError
from statejobs.values.job import Job

_MOST_REASONS = 20
OTHERWISE = "for other reasons"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhandled:
    """Why some jobs were left as they are."""

    why: str
    count: int
    job_id: int
    """One of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """How many jobs an act has done, and how many it has left as they are."""

    done: int = 0
    asked: int = 0
    """Running jobs that were asked to stop."""
    refused: tuple[Unhandled, ...] = ()
    locked: int = 0
    """Jobs that somebody else held or moved meanwhile, or whose record somebody held."""

    @property
    def total(self) -> int:
        """How many there were."""
        return self.done + self.asked + self.locked + self.refused_count

    @property
    def refused_count(self) -> int:
        """How many were refused, whatever the reason."""
        return sum(one.count for one in self.refused)

    def and_also(self, verdicts: Verdicts) -> Handled:
        """Return these counts, and those of one more batch."""
        return replace(
            self,
            done=self.done + len(verdicts.done),
            asked=self.asked + len(verdicts.asked),
            locked=self.locked + len(verdicts.locked),
            refused=_joined(self.refused, verdicts.refusals()),
        )


@dataclass(slots=True)
class Verdicts:
    """What becomes of each job of a batch."""

    done: list[Job] = field(default_factory=list)
    asked: list[Job] = field(default_factory=list)
    """Those that run, and were asked to stop."""
    locked: list[Job] = field(default_factory=list)
    refused: list[tuple[Job, StateJobsError]] = field(default_factory=list)

    def refuse(self, job: Job, error: StateJobsError) -> None:
        """Leave *job* as it is, for what *error* says."""
        self.refused.append((job, error))

    def add(self, others: Verdicts) -> None:
        """Take over those of another part of the batch."""
        self.done += others.done
        self.asked += others.asked
        self.locked += others.locked
        self.refused += others.refused

    def refusals(self) -> Iterable[Unhandled]:
        """Yield each refusal by itself."""
        for job, error in self.refused:
            yield Unhandled(why=_why(job, error), count=1, job_id=job.id)


def refusal(name: str, job: Job, reason: str) -> TransitionRefusedError:
    """Return the error of a *job* whose state does not allow it."""
    return TransitionRefusedError(
        name,
        record=f"job {job.id}",
        state=job.state,
        reasons=[f"it is {job.state}: {reason}"],
        job_id=job.id,
    )


def _why(job: Job, error: StateJobsError) -> str:
    """Return why *job* was refused, in words that fit others as well."""
    told = error.why or error.what
    record = f"{job.resource} {job.record_id}"
    for name, instead in (
        (f"its record, {record},", "its record"),
        (f"its key, {job.dedupe_key},", "its key,"),
        (record, "its record"),
        (f"job {job.id}", "the job"),
    ):
        told = told.replace(name, instead)
    return told


def _joined(
    known: Iterable[Unhandled], further: Iterable[Unhandled]
) -> tuple[Unhandled, ...]:
    """Return the refusals of both, one for each reason; beyond a number, one for all others."""
    by_reason: dict[str, Unhandled] = {}
    for one in (*known, *further):
        is_room = one.why in by_reason or len(by_reason) < _MOST_REASONS
        why = one.why if is_room else OTHERWISE
        before = by_reason.get(why)
        count = one.count + (before.count if before else 0)
        by_reason[why] = Unhandled(
            why=why, count=count, job_id=before.job_id if before else one.job_id
        )
    return tuple(by_reason.values())

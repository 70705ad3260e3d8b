"""Which jobs may run beside each other after their worker died, so that a killer takes few along.

After one crash most were only neighbours of what killed: they run together again, at once. From the
second crash on, or where one more would end the job, a suspect has no other suspect beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol, TypeVar

TOGETHER_AFTER = 1
"""Crashes after which a job may still run beside others that crashed as often."""


class Suspects(StrEnum):
    """Which suspects may be claimed, beside those that run here."""

    ANY = "any"
    """None is here."""
    SHARING = "sharing"
    """Only those that may run beside each other, as those that are here."""
    NONE = "none"
    """One is here that runs alone."""


class Queued(Protocol):
    """What is asked of a queued job."""

    @property
    def key(self) -> str:
        """Whose job it is."""
        ...

    @property
    def attempt(self) -> int:
        """Attempts begun so far."""
        ...

    @property
    def max_attempts(self) -> int:
        """How many it has."""
        ...

    @property
    def crashes(self) -> int:
        """Attempts that ended with their worker."""
        ...

    @property
    def is_suspect(self) -> bool:
        """Whether there are any."""
        ...


Q = TypeVar("Q", bound=Queued)


def runs_alone(job: Queued, *, next_attempt: int, max_crashes: int) -> bool:
    """Return whether no other suspect may run beside *job* in its *next_attempt*."""
    if not job.is_suspect:
        return False
    is_last = next_attempt >= job.max_attempts or job.crashes + 1 >= max_crashes
    return is_last or job.crashes > TOGETHER_AFTER


def fit_together(jobs: Sequence[Q], max_crashes_of: Callable[[str], int]) -> list[Q]:
    """Return those of the queued *jobs* that may run beside each other: the first suspect decides.

    Args:
        jobs: In their order, which is kept; those left out stay queued.
        max_crashes_of: Key → crashes after which its jobs are given up.
    """

    def is_alone(job: Queued) -> bool:
        crashes = max_crashes_of(job.key)
        return runs_alone(job, next_attempt=job.attempt + 1, max_crashes=crashes)

    first = next((job for job in jobs if job.is_suspect), None)
    if first is None:
        return list(jobs)
    if is_alone(first):
        return [job for job in jobs if not job.is_suspect or job is first]
    return [job for job in jobs if not is_alone(job)]

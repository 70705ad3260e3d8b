"""Settings of a worker, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta

from statejobs.errors import ConfigurationError
from statejobs.values.backoff import LONGEST
from statejobs.values.clock import Sources
from statejobs.values.job import JobState
from statejobs.values.kinds import check_kind, check_span, check_whole

_LEAST_IDLE = timedelta(seconds=10)
"""A short lease is no reason to take the transaction from a body that waits for another service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How a worker claims, holds and gives back."""

    lease: timedelta = timedelta(seconds=30)
    """How long a claim holds without a heartbeat; a dead worker's jobs wait that long."""
    heartbeat: timedelta = timedelta(seconds=10)
    """How often leases are renewed."""
    rescue: timedelta = timedelta(seconds=5)
    """How often leases that ran out are looked for."""
    sweep: timedelta = timedelta(seconds=10)
    """How often records are looked for whose time in a state is over."""
    poll: timedelta = timedelta(seconds=1)
    """How often an idle worker looks for work, when no hint comes."""
    shutdown_grace: timedelta = timedelta(seconds=15)
    """How long running jobs may go on after the first signal."""
    timeout_grace: timedelta = timedelta(seconds=5)
    """How long a thread goes on after its timeout, or a body that is asked to stop."""
    idle_in_transaction: timedelta | None = None
    """How long a transaction may stand idle on PostgreSQL; None: two leases, at least 10 s."""
    claim_batch: int = 100
    """Most jobs claimed in one transaction; while jobs are short, as many may wait for a slot."""
    finish_batch: int = 100
    """Most jobs whose success is committed together; 1 commits each by itself."""

    def __post_init__(self) -> None:
        """Refuse settings under which live jobs would be rescued, or loops would spin."""
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(item.default, int):
                check_whole(f"WorkerSettings({item.name}=…)", value, least=1)
            else:
                check_span(
                    f"WorkerSettings({item.name}=…)",
                    value,
                    or_none=item.default is None,
                )
            if value is not None and value <= (
                timedelta() if isinstance(value, timedelta) else 0
            ):
                raise ConfigurationError(
                    f"{item.name} must be positive, got {value}",
                    why="a worker would spin, or hold nothing",
                    fix=f"leave {item.name} out, or say more",
                )
            if isinstance(value, timedelta):  # what is longer, no clock can wait for
                object.__setattr__(self, item.name, min(value, LONGEST))
        if self.heartbeat * 2 > self.lease:
            raise ConfigurationError(
                f"heartbeat {self.heartbeat} is too slow for lease {self.lease}",
                why="one missed beat would lose live jobs",
                fix="make the lease at least twice the heartbeat",
            )

    def idle_limit(self, timeout: timedelta | None = None) -> timedelta:
        """Return how long a transaction may stand idle of a body that may take *timeout*."""
        least = self.idle_in_transaction or max(self.lease * 2, _LEAST_IDLE)
        return least if timeout is None else max(least, timeout + self.timeout_grace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long ended jobs and history are kept; None keeps them for good."""

    completed: timedelta | None = timedelta(days=1)
    """Jobs that ended well, by the time since they ended."""
    cancelled: timedelta | None = timedelta(days=7)
    """Jobs that were cancelled, unless a retry would continue them."""
    discarded: timedelta | None = timedelta(days=30)
    """Jobs that gave up, unless a retry would continue them."""
    history: timedelta | None = None
    """Rows of history, whatever became of their record."""
    ticks: timedelta | None = timedelta(days=30)
    """Ticks of schedules, but for the last two of each that were not skipped."""
    every: timedelta | None = timedelta(minutes=1)
    """How often a worker prunes; None leaves it to `prune()`."""
    batch: int = 1000
    """Most rows deleted in one transaction."""

    def __post_init__(self) -> None:
        """Refuse ages that no row could have, and loops that would spin."""
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "batch":
                check_whole("Retention(batch=…)", value, least=1)
            else:
                check_span(f"Retention({item.name}=…)", value, or_none=True)
            if value is None:
                continue
            zero = value - value
            if value < zero or (value == zero and item.name in {"every", "batch"}):
                raise ConfigurationError(
                    f"Retention({item.name}={value!r}) must be positive",
                    why="no row is of such an age, and no batch of such a size",
                    fix="give a size from 1 on"
                    if item.name == "batch"
                    else "None keeps all of it",
                )

    def of(self, state: JobState) -> timedelta | None:
        """Return how long jobs that ended in *state* are kept."""
        age: timedelta | None = getattr(self, state.value)
        return age

    @property
    def keeps_history_of_completed(self) -> bool:
        """Whether history goes back at least as far as jobs that ended well."""
        if self.history is None:
            return True
        return self.completed is not None and self.completed <= self.history

    @classmethod
    def older_than(cls, age: timedelta) -> Retention:
        """Return one that keeps every ended job for *age*, and all history and ticks."""
        return cls(completed=age, cancelled=age, discarded=age, ticks=None)


def check_parts(
    *, settings: object = None, retention: object = None, sources: object = None
) -> None:
    """Refuse parts of an app that are of another kind than their argument.

    Raises:
        WrongValueError: One is.
    """
    for name, given, kind in (
        ("settings", settings, WorkerSettings),
        ("retention", retention, Retention),
        ("sources", sources, Sources),
    ):
        if given is not None:
            check_kind(
                f"StateJobs: {name}=", given, kind, example=f"{kind.__name__}(…)"
            )

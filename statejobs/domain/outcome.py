"""How an attempt ended, as values. `Snooze` and `Cancel` are raised by actions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from statejobs.domain.failure import Failure


class Snooze(Exception):  # noqa: N818 - a request, not an error
    """Raise in an action to run it again later without spending an attempt.

    Effects through `ctx.session` are rolled back.
    """

    def __init__(
        self,
        delay: timedelta | None = None,
        *,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        reason: str | None = None,
    ) -> None:
        """Wait *delay* plus the given units.

        Raises:
            ValueError: The wait is not positive.
        """
        extra = timedelta(seconds=seconds, minutes=minutes, hours=hours)
        self.delay = (delay or timedelta()) + extra
        if self.delay <= timedelta():
            raise ValueError(
                f"Snooze: wait must be positive, got {self.delay}; say Snooze(minutes=5)"
            )
        self.reason = reason
        super().__init__(reason or f"snoozed for {self.delay}")


class Cancel(Exception):  # noqa: N818 - a request, not an error
    """Raise in an action to stop its job for good, with a reason.

    The record moves to the action's `failed` state; effects through `ctx.session` are rolled back.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Complete:
    """The action returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """The action raised, or ran out of time."""

    failure: Failure
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Crash:
    """The lease ran out: the worker died or lost its database."""

    reason: str = "crashed: the worker's lease ran out"


@dataclass(frozen=True, slots=True)
class Release:
    """The worker stops and gives the job back; the attempt does not count."""

    reason: str = "released: the worker was stopped"


@dataclass(frozen=True, slots=True)
class Stale:
    """The record no longer satisfies source or guard; the action was not called."""

    reason: str


@dataclass(frozen=True, slots=True)
class Superseded:
    """Someone else moved the record while the action ran; their move wins."""

    reason: str


Outcome = Complete | Fail | Snooze | Cancel | Crash | Release | Stale | Superseded

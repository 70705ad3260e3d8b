"""How an attempt ended, as values. `Snooze`, `Cancel` and `Stale` are raised by actions.

Each says of itself whether it `spends_attempt`; whether its job `may_run_again`, so that a request
to cancel it is asked for first; and as what the attempt is kept, `kept_as`, if it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, ClassVar

from statejobs.errors import restored
from statejobs.values.failure import Failure, describe_failure
from statejobs.values.wait import positive_wait


class Snooze(Exception):  # noqa: N818 - a request, not an error
    """Raise in an action to run it again later without spending an attempt.

    Effects through `ctx.session` are rolled back.
    """

    spends_attempt: ClassVar[bool] = False
    may_run_again: ClassVar[bool] = True
    kept_as: ClassVar[str | None] = None

    def __init__(
        self,
        delay: timedelta | None = None,
        *,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        reason: str | None = None,
    ) -> None:
        """Wait *delay* plus the given units; ten years at most.

        Raises:
            WrongValueError: The wait is not positive, or a number without a unit.
        """
        units = {"seconds": seconds, "minutes": minutes, "hours": hours}
        self.delay = positive_wait("Snooze", delay, units, example="Snooze(minutes=5)")
        self.reason = reason
        super().__init__(reason or f"snoozed for {self.delay}")

    def __reduce__(self) -> tuple[Any, ...]:
        return restored, (type(self), self.args), vars(self)


class Cancel(Exception):  # noqa: N818 - a request, not an error
    """Raise in an action to stop its job for good, with a reason.

    The record moves to the action's `failed` state; effects through `ctx.session` are rolled back.
    """

    spends_attempt: ClassVar[bool] = True
    may_run_again: ClassVar[bool] = False
    kept_as: ClassVar[str | None] = "cancelled"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Stale(Exception):  # noqa: N818 - an answer, not an error
    """Raise in an action whose work is no longer wanted, with a reason: its job ends at once.

    The record goes back to its source, as when a guard refuses, and the attempt does not count;
    effects through `ctx.session` are rolled back.
    """

    spends_attempt: ClassVar[bool] = False
    may_run_again: ClassVar[bool] = False
    kept_as: ClassVar[str | None] = None

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Complete:
    """The action returned."""

    spends_attempt: ClassVar[bool] = True
    may_run_again: ClassVar[bool] = False
    kept_as: ClassVar[str | None] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """The action raised, or ran out of time."""

    spends_attempt: ClassVar[bool] = True
    may_run_again: ClassVar[bool] = True
    kept_as: ClassVar[str | None] = "failed"

    failure: Failure
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack:
    """The database failed the attempt, not the action; it does not count, unless it goes on so."""

    spends_attempt: ClassVar[bool] = False
    may_run_again: ClassVar[bool] = True
    kept_as: ClassVar[str | None] = None

    failure: Failure
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Crash:
    """The lease ran out: the worker died or lost its database."""

    spends_attempt: ClassVar[bool] = True
    may_run_again: ClassVar[bool] = True
    kept_as: ClassVar[str | None] = "crashed"

    reason: str = "crashed: the worker's lease ran out"


@dataclass(frozen=True, slots=True)
class Release:
    """The worker stops and gives the job back; the attempt does not count."""

    spends_attempt: ClassVar[bool] = False
    may_run_again: ClassVar[bool] = True
    kept_as: ClassVar[str | None] = None

    reason: str = "released: the worker was stopped"


NOT_BEGUN = "given back: it had waited here for its turn"
"""Why a job is released that was claimed ahead, and did not begin."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """Someone else moved the record away while the action ran; their move wins."""

    spends_attempt: ClassVar[bool] = False
    may_run_again: ClassVar[bool] = False
    kept_as: ClassVar[str | None] = "superseded"

    reason: str
    is_declared: bool = False
    """Whether a declared transition, or an action, took it away: then all went as it should."""


@dataclass(frozen=True, slots=True)
class Late:
    """The job is no longer ours, or an outcome is recorded already: whatever came is dropped."""

    spends_attempt: ClassVar[bool] = False
    may_run_again: ClassVar[bool] = False
    kept_as: ClassVar[str | None] = None


Outcome = (
    Complete
    | Fail
    | GiveBack
    | Snooze
    | Cancel
    | Crash
    | Release
    | Stale
    | Superseded
    | Late
)


class HookKind(StrEnum):
    """What a hook is told of: its decorator."""

    DISCARD = "on_discard"
    """A job gave up."""
    SUPERSEDED = "on_superseded"
    """Someone else moved the record away while the action of the job ran."""


def request_of(raised: Snooze | Cancel | Stale) -> Outcome:
    """Return what *raised* asks for; a subclass that does not say it has failed its attempt."""
    try:
        if isinstance(raised, Cancel):
            return Cancel(raised.reason)
        if isinstance(raised, Stale):
            return Stale(raised.reason)
        return Snooze(raised.delay, reason=raised.reason)
    except BaseException as error:  # noqa: BLE001 - its attributes are the user's
        return Fail(failure=describe_failure(error), error=error)


class CancelSignal:
    """Set when a running job should stop: record moved, time up, or lease lost."""

    reason: str | None = None
    """Why, once it is set."""

    def set(self, reason: str) -> None:
        """Ask to stop; the first reason stays."""
        self.reason = self.reason or reason

    def __bool__(self) -> bool:
        return self.reason is not None

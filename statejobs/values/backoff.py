"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, cast

from statejobs.errors import WrongValueError
from statejobs.values.call_checks import is_async, is_generator, misfit
from statejobs.values.kinds import check_number, check_span
from statejobs.values.unrun import ran

DelayFunction = Callable[[int, BaseException | None], timedelta]
"""Takes the attempt that failed, from 1 on, and its error; returns the wait."""

LONGEST = timedelta(days=3650)
"""No wait is longer, so that a due time can always be computed and stored."""
_LAST_STEP = 20


class Backoff(Protocol):
    """Decides the wait after a failed attempt."""

    def delay(
        self, attempt: int, error: BaseException | None, rng: random.Random
    ) -> timedelta:
        """Return the wait after *attempt* failed.

        Args:
            attempt: The attempt that failed, from 1 on.
            error: What it raised; None when the worker crashed.
            rng: Where jitter comes from.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential:
    """Oban's default: `(base + 2**attempt) * (1 + r)` seconds, with r in `[0, jitter)`.

    The exponent stops at 20, which is 12 days.
    """

    base: timedelta = timedelta(seconds=15)
    jitter: float = 0.1
    cap: timedelta = timedelta(days=14)

    def __post_init__(self) -> None:
        """Refuse what cannot be waited for."""
        _check_wait(self.base, "Exponential: base")
        _check_wait(self.cap, "Exponential: cap")
        check_number("Exponential: jitter", self.jitter)
        if not 0 <= self.jitter <= 1:
            raise WrongValueError(
                f"jitter must be from 0 to 1, got {self.jitter!r}",
                where="Exponential",
                fix="say jitter=0.1",
            )

    def delay(
        self, attempt: int, error: BaseException | None, rng: random.Random
    ) -> timedelta:
        """Return a wait that doubles with each attempt."""
        del error
        step = min(max(attempt, 0), _LAST_STEP)
        factor = 1 + rng.random() * self.jitter
        return min((self.base + timedelta(seconds=2**step)) * factor, self.cap)


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same wait after each attempt."""

    wait: timedelta

    def __post_init__(self) -> None:
        """Refuse what cannot be waited for."""
        _check_wait(self.wait, "Fixed: wait")

    def delay(
        self, attempt: int, error: BaseException | None, rng: random.Random
    ) -> timedelta:
        """Return the wait."""
        del attempt, error, rng
        return self.wait


@dataclass(frozen=True, slots=True)
class Table:
    """One wait for each attempt; the last one repeats."""

    waits: tuple[timedelta, ...]

    def __post_init__(self) -> None:
        """Refuse an empty table and what cannot be waited for."""
        if not self.waits:
            raise WrongValueError(
                "needs at least one wait",
                where="Table",
                fix="say Table((timedelta(minutes=1),))",
            )
        for place, wait in enumerate(self.waits, start=1):
            _check_wait(wait, f"Table: wait {place}")

    def delay(
        self, attempt: int, error: BaseException | None, rng: random.Random
    ) -> timedelta:
        """Return the entry of the attempt."""
        del error, rng
        return self.waits[min(max(attempt, 1), len(self.waits)) - 1]


@dataclass(frozen=True, slots=True)
class Custom:
    """The wait that a function of yours computes; call it through `safe_delay`."""

    function: DelayFunction

    def delay(
        self, attempt: int, error: BaseException | None, rng: random.Random
    ) -> timedelta:
        """Return what the function returns, unchecked."""
        del rng
        return self.function(attempt, error)


def backoff_of(
    value: Backoff | timedelta | Sequence[timedelta] | DelayFunction | None,
) -> Backoff:
    """Return the backoff that *value* stands for; None stands for `Exponential()`.

    Raises:
        ValueError: It stands for none.
    """
    given: object = value
    if given is None:
        return Exponential()
    if isinstance(given, timedelta):
        return Fixed(given)
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return Table(tuple(given))
    if isinstance(given, type) or not callable(getattr(given, "delay", given)):
        raise ValueError(_misfit(given))  # noqa: TRY004 - one kind of refusal
    method = getattr(given, "delay", None)
    function, arguments = (given, 2) if method is None else (method, 3)
    if is_async(function):
        raise ValueError(f"backoff: {given!r} is async; write it as a plain def")
    problem = (
        "it is a generator" if is_generator(function) else misfit(function, arguments)
    )
    if problem is not None:
        raise ValueError(f"backoff: {given!r} cannot be asked: {problem}")
    if method is not None:
        return cast("Backoff", given)
    return Custom(cast("DelayFunction", given))


def safe_delay(
    backoff: Backoff, attempt: int, error: BaseException | None, rng: random.Random
) -> tuple[timedelta, BaseException | None]:
    """Return a wait in any case, and what went wrong with *backoff* if `Exponential` stood in.

    A broken backoff must not lose the failure that it was asked about.
    """
    try:
        wait = ran(
            backoff.delay(attempt, error, rng), "backoff", type(backoff).__name__
        )
        _check_wait(
            wait, f"backoff {type(backoff).__name__}: the wait after attempt {attempt}"
        )
    except BaseException as broken:  # noqa: BLE001 - a user's SystemExit must not lose it either
        return Exponential().delay(attempt, error, rng), broken
    return min(wait, LONGEST), None


def _check_wait(wait: object, what: str) -> None:
    check_span(what, wait)
    if isinstance(wait, timedelta) and wait < timedelta():
        raise WrongValueError(
            f"{what} must not be negative, got {wait}", fix="say timedelta() for none"
        )


def _misfit(given: object) -> str:
    if isinstance(given, type):
        return f"backoff: {given.__name__} is a class; say {given.__name__}(...)"
    if isinstance(given, int | float):
        return f"backoff: {given!r} has no unit; say timedelta(seconds={given!r})"
    return (
        f"backoff: cannot use {given!r}; give a timedelta, a sequence of timedeltas, "
        "a function (attempt, error) -> timedelta, or a Backoff"
    )

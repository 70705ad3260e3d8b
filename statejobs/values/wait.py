"""A wait that people give as a `timedelta`, in units, or as both."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from statejobs.errors import WrongValueError
from statejobs.values.backoff import LONGEST
from statejobs.values.kinds import check_number, check_span


def positive_wait(
    where: str,
    delay: timedelta | None,
    units: Mapping[str, float],
    *,
    example: str,
    longest: timedelta = LONGEST,
    called: str = "delay",
) -> timedelta:
    """Return *delay* plus the given *units*; *longest* at most.

    Raises:
        WrongValueError: The wait is not positive, or a number without a unit.
    """
    check_span(f"{where}: {called}", delay, or_none=True)
    for name, value in units.items():
        check_number(f"{where}: {name}", value)
    wait = _sum_of(delay or timedelta(), units, longest)
    if wait <= timedelta():
        raise WrongValueError(
            f"wait must be positive, got {wait}", where=where, fix=f"say {example}"
        )
    return wait


def _sum_of(
    delay: timedelta, units: Mapping[str, float], longest: timedelta
) -> timedelta:
    try:
        wait = delay + timedelta(**units)
    except OverflowError:
        # for ever, as people say it: timedelta.max, or an infinite float
        wait = longest if sum(units.values()) >= 0 else timedelta.min
    return min(wait, longest)

"""Time, ids and chance that a test holds in its hands."""

import itertools
import random
from datetime import UTC, datetime, timedelta

from statejobs.values.clock import Sources

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class ManualClock:
    """A clock that moves only when it is told to; its monotonic side moves along."""

    def __init__(self, at=NOON):
        self._at, self._seconds = at, 1000.0

    def now(self):
        return self._at

    def monotonic(self):
        return self._seconds

    def advance(self, span=None, /, **units):
        """Move on by a `timedelta`, or by its arguments."""
        step = span if span is not None else timedelta(**units)
        self._at += step
        self._seconds += step.total_seconds()


def manual_sources(clock, *, seed=0, prefix=""):
    """Sources on *clock* whose ids count up, and whose sleep moves the clock."""
    numbers = itertools.count(1)
    return Sources(
        clock=clock,
        ids=lambda: f"{prefix}{next(numbers):0{32 - len(prefix)}d}",
        rng=random.Random(seed),
        sleep=lambda seconds: clock.advance(seconds=seconds),
    )

"""Another clock, followed by monotonic seconds: which samples count, and how the time gets there.

An anchor knows what the other clock showed when our monotonic seconds stood at zero. A jump of the
wall clock of this machine therefore cannot matter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from statejobs.values.clock import Course

KEPT = 8
"""Samples of which the one with the least round trip counts."""
TOLERANCE = 1.0
"""Seconds of difference that are slewed away; more needs `AGREEING` samples, and is stepped."""
AGREEING = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the other clock answered, and when that was by our monotonic seconds."""

    told: datetime
    sent: float
    received: float

    @property
    def round_trip(self) -> float:
        """Seconds in which the other clock was read at some instant."""
        return self.received - self.sent

    @property
    def origin(self) -> float:
        """Seconds since 1970 by the other clock when our monotonic seconds stood at zero."""
        return self.told.timestamp() - (self.sent + self.received) / 2

    def agrees_with(self, origin: float) -> bool:
        """Return whether *origin* is within the tolerance of what this sample may mean."""
        return abs(self.origin - origin) <= TOLERANCE + self.round_trip / 2


class Anchor:
    """Takes samples of another clock, and decides when ours follows."""

    def __init__(self) -> None:
        self.course: Course | None = None
        """None before the first sample."""
        self._kept: deque[Sample] = deque(maxlen=KEPT)
        self._odd: list[Sample] = []

    @property
    def is_contradicted(self) -> bool:
        """Whether the last samples said something else, and too few of them agreed."""
        return bool(self._odd)

    def take(self, sample: Sample, *, at: float) -> bool:
        """Take a sample in, at *at* monotonic seconds.

        Returns:
            Whether the time was set to it at once: by the first, or by `AGREEING` that contradict
            what we had. Otherwise what is left of a difference is slewed.
        """
        if self.course is None:
            self._set([sample], at)
            return True
        if not sample.agrees_with(self.course.target):
            return self._contradict(sample, at)
        self._odd.clear()
        self._kept.append(sample)
        target = _best(self._kept).origin
        self.course = Course(origin=self.course.origin_at(at), since=at, target=target)
        return False

    def _contradict(self, sample: Sample, at: float) -> bool:
        self._odd = [odd for odd in self._odd if sample.agrees_with(odd.origin)]
        self._odd.append(sample)
        if len(self._odd) < AGREEING:
            return False
        self._set(self._odd, at)
        return True

    def _set(self, samples: Sequence[Sample], at: float) -> None:
        self._kept = deque(samples, maxlen=KEPT)
        self._odd = []
        origin = _best(samples).origin
        self.course = Course(origin=origin, since=at, target=origin)


def _best(samples: Sequence[Sample]) -> Sample:
    return min(samples, key=lambda sample: sample.round_trip)

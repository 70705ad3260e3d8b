"""The clock of a worker: the database's, carried on by monotonic seconds between two looks at it.

Nodes judge each other's leases, so they must agree on the time; their own wall clocks need not.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from statejobs.events import ClockSet
from statejobs.store.nodes import ask_time
from statejobs.store.store import Store
from statejobs.telemetry import Telemetry
from statejobs.values.anchor import AGREEING, TOLERANCE, Anchor, Sample
from statejobs.values.clock import Clock, CourseClock, Sources, tells_wall_time

log = logging.getLogger("statejobs.clock")

_FRESH = 10.0  # seconds for which a sample serves who only wants some


class Timekeeper(Protocol):
    """Keeps the clock of a node right."""

    @property
    def offset(self) -> float | None:
        """Seconds by which the wall clock of this machine is ahead; None when nobody knows."""
        ...

    def take(self, told: datetime | None, *, sent: float) -> None:
        """Take in what the database told to a statement sent at *sent* monotonic seconds."""
        ...

    def settle_doubt(self) -> None:
        """Measure before a decision, when the clock may be wrong: after a suspend, for instance."""
        ...

    def was_set_within(self, span: timedelta) -> bool:
        """Return whether the time was set in the last *span*, so that leases may be misjudged."""
        ...


class OwnTime:
    """Leaves a clock alone: one that is injected, or the system's beside a file."""

    offset = None

    def take(self, told: datetime | None, *, sent: float) -> None:
        """Do nothing."""

    def settle_doubt(self) -> None:
        """Do nothing."""

    def was_set_within(self, span: timedelta) -> bool:  # noqa: ARG002 - the port
        """Return False."""
        return False


class DatabaseClock(CourseClock):
    """A clock that follows the database's; until it was asked once, the wall clock's."""

    def __init__(
        self, wall: Clock, ask: Callable[[], datetime], telemetry: Telemetry
    ) -> None:
        """Make a clock.

        Args:
            wall: The clock of this machine.
            ask: Asks the database for its time.
            telemetry: Told when the time is set.
        """
        super().__init__(wall)
        self._ask = ask
        self._telemetry = telemetry
        self._anchor = Anchor()
        self._lock = threading.Lock()
        self._sampled_at = self._set_at = float("-inf")
        self._wall_ahead = 0.0
        """Seconds by which the wall clock was ahead of the monotonic one at the last sample."""

    @property
    def offset(self) -> float | None:
        """Seconds by which the wall clock of this machine is ahead of the database's."""
        return None if self.course is None else self._measure_offset()

    def take(self, told: datetime | None, *, sent: float) -> None:
        """Take in what the database told to a statement sent at *sent* monotonic seconds."""
        if told is None:
            return
        received = self.monotonic()
        with self._lock:
            before = self.now()
            is_first = self.course is None
            was_set = self._anchor.take(
                Sample(told=told, sent=sent, received=received), at=self.monotonic()
            )
            self.course = self._anchor.course
            self._sampled_at = received
            self._wall_ahead = self._measure_wall()
            step = (self.now() - before).total_seconds()
            is_told = was_set and abs(step) > TOLERANCE
            if is_told and not is_first:  # before the first nothing was judged by it
                self._set_at = received
        if is_told:
            self._tell(step, "" if is_first else ": no job is rescued for one lease")

    def settle_doubt(self) -> None:
        """Measure before a decision, when the clock may be wrong: after a suspend, for instance.

        Monotonic seconds may stand still while a machine sleeps; its wall clock does not.
        """
        for _ in range(AGREEING):
            if not self._is_doubtful():
                return
            self._measure()

    def refresh(self) -> None:
        """Measure, unless that was done a moment ago."""
        if self.monotonic() - self._sampled_at > _FRESH:
            self._measure()
        self.settle_doubt()

    def was_set_within(self, span: timedelta) -> bool:
        """Return whether the time was set in the last *span*, so that leases may be misjudged."""
        return self.monotonic() - self._set_at < span.total_seconds()

    def _measure(self) -> None:
        sent = self.monotonic()
        self.take(self._ask(), sent=sent)

    def _is_doubtful(self) -> bool:
        if self.course is None:
            return True
        has_jumped = abs(self._measure_wall() - self._wall_ahead) > TOLERANCE
        return has_jumped or self._anchor.is_contradicted

    def _measure_wall(self) -> float:
        return self.wall.now().timestamp() - self.monotonic()

    def _measure_offset(self) -> float:
        return round((self.wall.now() - self.now()).total_seconds(), 3)

    def _tell(self, step: float, so: str) -> None:
        log.warning(
            "the clock was %.1f s %s the database's, and was set%s",
            abs(step),
            "behind" if step > 0 else "ahead of",
            so,
        )
        self._telemetry.emit(ClockSet, seconds=step, offset=self._measure_offset())


_OWN_TIME = OwnTime()


def timekeeper_of(clock: Clock) -> Timekeeper:
    """Return what keeps *clock* right."""
    return clock if isinstance(clock, DatabaseClock) else _OWN_TIME


def on_time(sources: Sources, store: Store, telemetry: Telemetry) -> Sources:
    """Let a clock that may be wrong follow the database's, where that has one."""
    if store.dialect != "postgresql" or not tells_wall_time(sources.clock):
        return sources
    clock = DatabaseClock(sources.clock, partial(ask_time, store), telemetry)
    return replace(sources, clock=clock)

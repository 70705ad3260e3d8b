"""Time, ids and chance come in as arguments, so that tests can move and repeat them."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from statejobs.values.kinds import check_callable, check_kind

FIRST = datetime(1970, 1, 1, tzinfo=UTC)
"""No time of ours is earlier."""
LAST = datetime(9999, 1, 1, tzinfo=UTC)
"""Nor later: in every time zone each can be stored, read and added to."""
SLEW = 0.1
"""Seconds by which a slewed clock may go faster or slower in each second."""
IdSource = Callable[[], str]
"""Returns a fresh random id (32 hexadecimal digits)."""


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards, for measuring durations."""
        ...


class Waitable(Protocol):
    """What ends a wait before its time: an Event, or a Condition whose lock is held."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait; return False when the time is up."""
        ...


Wait = Callable[[Waitable, float], bool]
"""Waits for something, so many seconds at most; returns False when the time is up."""


def wait_for(awaited: Waitable, seconds: float) -> bool:
    """Wait in the time of this machine."""
    return awaited.wait(seconds)


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Return the wall time of this machine in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - the one place that reads the wall clock

    monotonic = staticmethod(time.monotonic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Where the time is, and where it goes: it never runs backwards on one."""

    origin: float
    """Seconds since 1970 at monotonic zero, from which it begins."""
    since: float
    """Monotonic seconds at which it begins."""
    target: float
    """The origin that it comes to."""

    def origin_at(self, monotonic: float) -> float:
        """Return the origin that holds at *monotonic* seconds."""
        most = SLEW * max(0.0, monotonic - self.since)
        return self.origin + min(max(self.target - self.origin, -most), most)

    def at(self, monotonic: float) -> datetime:
        """Return the time at *monotonic* seconds."""
        return datetime.fromtimestamp(self.origin_at(monotonic) + monotonic, UTC)


class CourseClock:
    """A clock that runs on a course; until it has one, it shows the wall time of its machine."""

    def __init__(self, wall: Clock) -> None:
        """Let it go on by the monotonic seconds of *wall*."""
        self.wall = wall
        self.monotonic = wall.monotonic
        self.course: Course | None = None

    def now(self) -> datetime:
        """Return the time."""
        course = self.course
        return self.wall.now() if course is None else course.at(self.monotonic())


def tells_wall_time(clock: Clock) -> bool:
    """Return whether *clock* runs by the seconds of this machine, so that its time may be wrong.

    One with monotonic seconds of its own is somebody's who moves it, and is right by definition.
    """
    return clock.monotonic is time.monotonic


def utcnow() -> datetime:
    """Return the current time in UTC; a default for your own `UtcDateTime` columns."""
    return SystemClock().now()


def random_id() -> str:
    """Return 32 random hexadecimal digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What an engine takes from the world: time, ids and chance."""

    clock: Clock = field(default_factory=SystemClock)
    ids: IdSource = random_id
    rng: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], None] = time.sleep  # noqa: TID251 - the one place that may sleep
    """Waits that many seconds before a database is asked again."""
    wait: Wait = wait_for
    """Waits between two rounds of a service, for the end of a body, and of running jobs."""

    def __post_init__(self) -> None:
        """Refuse what could not be asked, long before a worker asks it."""
        for name in ("now", "monotonic"):
            given = getattr(self.clock, name, self.clock)
            check_callable(
                f"Sources(clock=…): its {name}", given, example="clock=SystemClock()"
            )
        check_callable("Sources(ids=…)", self.ids, example="ids=lambda: uuid4().hex")
        check_callable("Sources(sleep=…)", self.sleep, example="sleep=time.sleep")
        check_callable("Sources(wait=…)", self.wait, example="wait=wait_for")
        check_kind(
            "Sources(rng=…)", self.rng, random.Random, example="rng=random.Random(7)"
        )

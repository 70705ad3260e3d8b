"""When something is done again and again, and what becomes of ticks that nobody saw in time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal

from statejobs.values.cron import Cron

CatchUp = Literal["none", "last", "all"]
"""Which of the ticks are made up for that were missed."""
Overlap = Literal["skip", "queue"]
"""What becomes of a tick while the job of the last one lives."""
MISSED_AFTER = timedelta(minutes=1)
"""A tick is missed that is first seen later than this."""
MOST_CAUGHT_UP = 100
"""Most missed ticks that are made up for at once."""
_COUNTED = timedelta(days=31)
"""For so long missed ticks are counted; before, only until there are enough to make up for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTicks:
    """What is to be done at one look at a timetable."""

    caught_up: tuple[datetime, ...]
    """Ticks that were missed and are made up for, oldest first."""
    on_time: tuple[datetime, ...]
    """Ticks that were not missed, oldest first."""
    left: tuple[datetime, ...]
    """Ticks that were missed for good; in a long absence the last of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """The instants of a schedule, and its policy."""

    cron: Cron
    catch_up: CatchUp = "last"
    overlap: Overlap = "skip"

    def spec_of(self, key: str) -> str:
        """Return a digest of it as that of *key*, by which code knows the rows of its like."""
        said = (key, self.cron.expression, self.cron.zone, self.catch_up, self.overlap)
        return sha256("\n".join(said).encode()).hexdigest()

    def due(self, since: datetime, now: datetime) -> DueTicks:
        """Return what becomes *now* of the ticks from *since* on, that instant included."""
        known = self._latest(since, now)
        on_time = tuple(at for at in known if now - at <= MISSED_AFTER)
        missed = known[: len(known) - len(on_time)]
        caught_up = missed[len(missed) - self._made_up(missed, on_time) :]
        left = missed[: len(missed) - len(caught_up)]
        return DueTicks(caught_up=caught_up, on_time=on_time, left=left)

    def _made_up(
        self, missed: tuple[datetime, ...], on_time: tuple[datetime, ...]
    ) -> int:
        """Return for how many of the *missed* ticks is made up."""
        if self.catch_up == "all":
            return min(len(missed), MOST_CAUGHT_UP)
        is_wanted = self.catch_up == "last" and not on_time
        return min(len(missed), int(is_wanted))

    def _latest(self, since: datetime, now: datetime) -> tuple[datetime, ...]:
        """Return *since* and the ticks after it, or at least as many as can be made up for."""
        span = _COUNTED
        while now - since > span:
            found = tuple(self.cron.between(now - span, now))
            if len(found) > MOST_CAUGHT_UP:
                return found
            span *= 4
        # promised, though other data of time zones may say otherwise by now
        return (since, *self.cron.between(since, now))

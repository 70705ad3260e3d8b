"""What a worker knows of ticks that come: the look beside its jobs wakes it up for them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from statejobs.values.clock import Clock


class Agenda:
    """When some schedules are due next, as far as anybody has seen; safe between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.specs: Sequence[str] = ()
        """Those of the schedules that this node takes; of others it asks nothing."""
        self.keys: Sequence[str] = ()
        """Whose unfinished ticks it can go on with."""
        self.news = threading.Event()
        """Set when something is due before its time."""
        self.news.set()  # nobody has looked
        self._next_at: datetime | None = None
        self._lock = threading.Lock()

    def follow(self, *, specs: Iterable[str], keys: Iterable[str]) -> None:
        """Say what is to be looked for."""
        self.specs = (*specs,)
        self.keys = (*keys,)

    def note(self, at: datetime | None) -> bool:
        """Note when something is due, None for nothing; return whether nothing is as soon."""
        if at is None:
            return False
        with self._lock:
            is_first = self._next_at is None or at < self._next_at
            if is_first:
                self._next_at = at
        return is_first

    def expect(self, at: datetime | None) -> None:
        """Note what a look has shown, and say so."""
        if self.note(at):
            self.news.set()

    def begin_round(self) -> None:
        """Forget what is known: it is looked at anew."""
        self.news.clear()
        with self._lock:
            self._next_at = None

    def time_left(self, most: timedelta) -> timedelta:
        """Return in what time the next is due, in *most* at the latest."""
        with self._lock:
            at = self._next_at
        if at is None:
            return most
        return min(most, max(at - self._clock.now(), timedelta()))

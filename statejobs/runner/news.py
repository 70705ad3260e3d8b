"""What a worker knows of work that may be there: hints, room for more, and when a job is due."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from statejobs.values.clock import Clock

_SHORTEST = timedelta(milliseconds=1)


class News:
    """Wakes who claims, and remembers what for; safe between threads."""

    def __init__(self, clock: Clock, *, poll: timedelta) -> None:
        self._clock = clock
        self._poll = poll
        self.arrived = threading.Event()
        """Set while there is something to look at."""
        self.arrived.set()  # nobody has looked
        self.must_look = True
        """Whether the queues are to be looked at, whatever is known of them."""
        self.is_hinted = False
        """Whether someone said that there is work."""
        self._next_due: datetime | None = None
        self._lock = threading.Lock()

    def hint(self) -> None:
        """Someone says that there is work: look now."""
        self.is_hinted = self.must_look = True
        self.arrived.set()

    def note_room(self) -> None:
        """There may be room for more, or more for the room."""
        if not self.arrived.is_set():
            self.arrived.set()

    def note_due(self, due: datetime) -> None:
        """Look again when a job is *due*, sooner than the next poll."""
        if self.expect(due):
            self.note_room()

    def expect(self, due: datetime) -> bool:
        """Note that a job is *due*; return whether no other is as soon."""
        with self._lock:
            if self._next_due is not None and self._next_due <= due:
                return False
            self._next_due = due
            return True

    def take(self) -> None:
        """Take back the news, before they are acted on; without any it is time to look."""
        if not self.arrived.is_set():
            self.must_look = True
        self.arrived.clear()

    def begin_look(self) -> None:
        """Forget what is known: it is looked at anew."""
        self.must_look = False
        self._next_due = None

    def time_to_look(self) -> timedelta:
        """Return in what time to look though nobody says anything."""
        due = self._next_due
        if due is None:
            return self._poll
        return min(self._poll, max(due - self._clock.now(), _SHORTEST))

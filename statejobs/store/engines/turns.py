"""Writers of one process take turns at a file of SQLite, in the order in which they come.

A writer that finds the file locked sleeps in SQLite, longer each time, up to 0.1 s, and whoever
happens to look next gets the lock. Of a worker's two writers, the one that claims and the one that
commits, each slept for a quarter of the time that way, at times beside a free file.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 1.0
"""Seconds that a writer waits for its turn; then SQLite decides, as it does between processes."""


class Turns:
    """A courtesy of threads to each other; it protects nothing."""

    def __init__(self, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._is_taken = False
        self._waiting: deque[threading.Event] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """Wait for a turn, and have it until the end; False when it did not come in time."""
        has_turn = self._take()
        try:
            yield has_turn
        finally:
            if has_turn:
                self._pass_on()

    def _take(self) -> bool:
        mine = threading.Event()
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return True
            self._waiting.append(mine)
        if mine.wait(self._patience):
            return True
        with self._lock:
            if mine.is_set():  # just now
                return True
            self._waiting.remove(mine)
            return False

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._is_taken = False

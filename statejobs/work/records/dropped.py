"""What actions return, which nobody reads: their record is their result."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger("statejobs.action")


class Dropped:
    """Tells once of each key that its action returns a value; safe between threads."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def tell(self, key: str, action: str, value: object) -> None:
        """Warn that the *value* of *action* is dropped, the first time."""
        with self._lock:
            if key in self._told:
                return
            self._told.add(key)
        log.warning(
            "action %r of %s returned a value of type %s, which is dropped: "
            "its result is its record; let a task return it, or write it to a column",
            action,
            key,
            type(value).__name__,
        )

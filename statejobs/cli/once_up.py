"""The start of a worker process: it waits for its database, and a stop ends it at once."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from statejobs.store.faults import is_away, will_pass
from statejobs.values.clock import Sources
from statejobs.values.failure import first_line
from statejobs.values.visible import visible_line

log = logging.getLogger("statejobs.worker")
T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 4.0  # seconds between tries
_SAY_EVERY = 10.0  # seconds between two lines of log


class Orders:
    """What the process was told; until `serve`, the first order ends it at once."""

    def __init__(self) -> None:
        self.given: queue.SimpleQueue[str] = queue.SimpleQueue()
        """Safe to put into from a signal handler."""
        self._to_obey: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._serves = False
        self._lock = threading.Lock()
        threading.Thread(
            target=self._pass_on, name="statejobs-orders", daemon=True
        ).start()

    def serve(self) -> None:
        """From now on jobs may run: an order waits for `wait`."""
        with self._lock:
            self._serves = True

    def wait(self) -> str:
        """Return the next order."""
        return self._to_obey.get()

    def _pass_on(self) -> None:
        while True:
            order = self.given.get()
            with self._lock:
                if not self._serves:
                    log.info("stopped before any job was claimed")
                    # the main thread may be anywhere: in an import, or connecting
                    os._exit(0)
            self._to_obey.put(order)


def once_there(act: Callable[[], T], sources: Sources) -> T:
    """Return what *act* does as soon as the database is there for it.

    Raises:
        Exception: Whatever waiting does not mend.
    """
    monotonic = sources.clock.monotonic
    pause = _FIRST_PAUSE
    said_at = float("-inf")
    while True:
        try:
            return act()
        except DBAPIError as error:
            if not will_pass(error):
                raise
            if monotonic() - said_at >= _SAY_EVERY:
                said_at = monotonic()
                what = "is away" if is_away(error) else "cannot be used"
                reason = visible_line(first_line(error.orig or error))
                log.warning(
                    "the database %s: %s; this process waits for it", what, reason
                )
        sources.sleep(pause * (0.5 + sources.rng.random()))
        pause = min(pause * 2, _LONGEST_PAUSE)

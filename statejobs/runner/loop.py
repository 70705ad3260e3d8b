"""A loop that calls one function every so often, survives its errors, and stops at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from random import Random

from sqlalchemy.exc import SQLAlchemyError

_SOON = 1.0  # seconds

log = logging.getLogger("statejobs.runner")


class Loop:
    """Calls `run_once` in a thread, every *interval* with a little chance in it.

    When the database was away, or `run_once` returned False, it is called again sooner.
    """

    def __init__(
        self, name: str, run_once: Callable[[], object], interval: timedelta, rng: Random
    ) -> None:
        self._run_once, self._interval, self._rng = run_once, interval.total_seconds(), rng
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"statejobs-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the call that may be going on."""
        self._stopped.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        interval = self._interval
        while not self._stopped.wait(interval * (0.9 + 0.2 * self._rng.random())):
            interval = self._interval
            try:
                if self._run_once() is False:
                    interval = min(interval, _SOON)
            except SQLAlchemyError as error:
                interval = min(interval, _SOON)
                log.debug("%s: the database is away: %s", self._thread.name, error)
            except Exception:  # the loop must go on, whatever a round met
                log.exception("%s failed", self._thread.name)

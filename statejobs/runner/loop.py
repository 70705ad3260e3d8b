"""A loop that calls one function every so often, survives its errors, and stops at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from random import Random

from statejobs.store.faults import Fault, fault_of

_SOON = 1.0  # seconds
_PASSING = {Fault.AWAY, Fault.READ_ONLY, Fault.CONFLICT, Fault.LOCKED}
"""What is over by itself, and told by who claims."""

log = logging.getLogger("statejobs.runner")


class Loop:
    """Calls `run_once` in a thread, every *interval* with a little chance in it.

    When the database could not serve, or `run_once` returned False, it is called again sooner.
    """

    def __init__(
        self,
        name: str,
        run_once: Callable[[], object],
        interval: timedelta,
        rng: Random,
    ) -> None:
        self._run_once, self._interval, self._rng = (
            run_once,
            interval.total_seconds(),
            rng,
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"statejobs-{name}", daemon=True
        )

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
            except Exception as error:  # the loop must go on, whatever a round met
                if fault_of(error) in _PASSING:
                    interval = min(interval, _SOON)
                    log.debug("%s: not now: %s", self._thread.name, error)
                else:
                    log.exception("%s failed", self._thread.name)

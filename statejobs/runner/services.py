"""Services: what a worker does time and again, beside the jobs that it runs.

A new one is its `run_once`, and an entry in a list: `work/services.py` has those of an app, which
may know records and tasks, `runner/upkeep.py` those that the worker itself needs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta

from statejobs.runner.blame import likeness_of
from statejobs.store.faults import Fault, fault_of
from statejobs.values.backoff import LONGEST
from statejobs.values.clock import Sources

log = logging.getLogger("statejobs.runner")

SOON = timedelta(seconds=1)
_CHANCE = 0.2
"""Part of the time to the next round that is left to chance: nodes are not to go in step."""
_ENDS_WITHIN = 5.0  # seconds for a round that goes on at a stop
_PASSING = {Fault.AWAY, Fault.READ_ONLY, Fault.CONFLICT, Fault.LOCKED}
"""What is over by itself, and told by who claims."""


@dataclass(frozen=True, slots=True)
class Service:
    """One thing that is done time and again; `run_once` is one round of it, without a wait.

    What it returns says when the next is due: a `timedelta` after just so long, False soon,
    anything else after `every`. What it raises ends neither the service nor any other.
    """

    name: str
    run_once: Callable[[], object]
    every: timedelta
    _: KW_ONLY
    news: threading.Event | None = None
    """Set when a round is due before its time; a round takes it back."""
    on_error: Callable[[Exception], float] | None = None
    """Tells what a round raised; returns the seconds to the next, which no news cuts short."""


class Loop:
    """Runs a service in a thread until it is stopped: at once, or after the round that goes on.

    Whoever steps time starts no thread, and calls `round` when its time has come.
    """

    def __init__(self, service: Service, sources: Sources) -> None:
        self.service = service
        self._sources = sources
        self._stopped = threading.Event()
        self._news = service.news or threading.Event()
        self._heeded = self._news
        """What cuts the present wait short."""
        self._met: str | None = None
        """What the last round raised, if it was told."""
        self._thread = threading.Thread(
            target=self._run, name=f"statejobs-{service.name}", daemon=True
        )

    @property
    def is_running(self) -> bool:
        """Whether its thread has begun, and not ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Begin no more rounds."""
        self._stopped.set()
        self._news.set()

    def join(self, patience: float | None = None) -> None:
        """Wait for the round that goes on at the end, so many seconds at most."""
        self._thread.join(patience)

    def stop(self) -> None:
        """End, after the round that may be going on."""
        self.end()
        self.join(_ENDS_WITHIN)

    def round(self) -> float:
        """Run the service once, whatever it meets; return the seconds to the next round."""
        self._heeded = self._news
        try:
            due = self.service.run_once()
        except Exception as error:  # noqa: BLE001 - the service goes on, whatever a round met
            return self._failed(error)
        self._note_success()
        if isinstance(due, timedelta):
            return due.total_seconds()
        return self._by_chance(is_soon=due is False)

    def _run(self) -> None:
        seconds = self._by_chance()
        while not self._is_stopped_within(seconds):
            seconds = self.round()

    def _is_stopped_within(self, seconds: float) -> bool:
        if (
            not self._stopped.is_set()
        ):  # else a round may have taken the news of it back
            self._sources.wait(self._heeded, seconds)
        return self._stopped.is_set()

    def _by_chance(self, *, is_soon: bool = False) -> float:
        every = min(self.service.every, SOON if is_soon else LONGEST)
        part = 1 - _CHANCE / 2 + _CHANCE * self._sources.rng.random()
        return every.total_seconds() * part

    def _failed(self, error: Exception) -> float:
        if self.service.on_error is not None:
            self._heeded = self._stopped
            return self.service.on_error(error)
        if fault_of(error) in _PASSING:
            log.debug("%s: not now: %s", self._thread.name, error)
            return self._by_chance(is_soon=True)
        self._tell(error)
        return self._by_chance()

    def _tell(self, error: Exception) -> None:
        """Tell an error once, and not its like in the rounds that follow."""
        likeness = likeness_of(error)
        if likeness == self._met:
            log.debug("%s failed again: %s", self._thread.name, error)
            return
        self._met = likeness
        log.error("%s failed", self._thread.name, exc_info=error)

    def _note_success(self) -> None:
        if self._met is not None:
            log.warning("%s goes well again", self._thread.name)
            self._met = None

"""What claiming meets beside work: tells it once, and lets it rest no longer than needed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from statejobs.events import DatabaseAway, DatabaseBack
from statejobs.runner.blame import is_everyones, likeness_of
from statejobs.runner.blockers import is_table_locked
from statejobs.store.faults import Fault, fault_of, words_of
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources

log = logging.getLogger("statejobs.worker")

_SHORTEST, _LONGEST = 0.1, 5.0  # seconds between tries
_TELLS_EVERY = 10.0  # seconds between two lines of the same cause
_PASSING = {Fault.CONFLICT, Fault.LOCKED}


@dataclass(slots=True)
class _Rest:
    """A queue that is not claimed from for a moment."""

    seconds: float
    until: float


class Trouble:
    """Keeps an outage from the log but for its begin and end, and one queue from the others."""

    def __init__(
        self,
        sources: Sources,
        telemetry: Telemetry,
        *,
        who_has_locked: Callable[[], str] = lambda: "somebody has locked a table",
    ) -> None:
        """Make one; *who_has_locked* names tables and processes for the log."""
        self._clock = sources.clock
        self._rng = sources.rng
        self._telemetry = telemetry
        self._who_has_locked = who_has_locked
        self._outage: Fault | None = None
        self._pause = _SHORTEST
        self._rests: dict[str, _Rest] = {}
        self._told: dict[str, float] = {}

    @property
    def is_met(self) -> bool:
        """Whether an outage was told whose end is still to be seen."""
        return self._outage is not None

    def guard(self, queue: str, fill: Callable[[], bool]) -> bool:
        """Return what *fill* returns; an error that only concerns *queue* lets that rest.

        Raises:
            Exception: It concerns every queue.
        """
        rest = self._rests.get(queue)
        if rest is not None and self._clock.monotonic() < rest.until:
            return False
        try:
            is_more = fill()
        except Exception as error:
            if is_everyones(error):
                raise
            self._tell(f"nothing of queue {queue!r} could be claimed", error)
            self._let_rest(queue)
            return False
        self._rests.pop(queue, None)
        return is_more

    def met(self, error: Exception) -> float:
        """Tell *error*, which concerns every queue; return for how many seconds to pause."""
        fault = fault_of(error)
        if fault is Fault.AWAY:
            self._begin(fault, "the database is away: %s", error)
        elif fault is Fault.READ_ONLY:
            self._begin(
                fault, "the database is read-only, nothing is claimed: %s", error
            )
        else:
            self._tell("claiming failed", error)
        pause = self._pause * (0.5 + self._rng.random())
        self._pause = min(self._pause * 2, _LONGEST)
        return pause

    def is_over(self) -> None:
        """Note that a round went well."""
        self._pause = _SHORTEST
        if self._outage is None:
            return
        is_away = self._outage is Fault.AWAY
        self._outage = None
        log.warning(
            "the database is back" if is_away else "the database can be written again"
        )
        if is_away:
            self._telemetry.emit(DatabaseBack)

    def _begin(self, fault: Fault, message: str, error: Exception) -> None:
        if self._outage is fault:
            return
        self._outage = fault
        log.warning(message, error)
        if fault is Fault.AWAY:
            self._telemetry.emit(DatabaseAway, error=error)

    def _let_rest(self, queue: str) -> None:
        before = self._rests.get(queue)
        seconds = _SHORTEST if before is None else min(before.seconds * 2, _LONGEST)
        self._rests[queue] = _Rest(seconds, self._clock.monotonic() + seconds)

    def _tell(self, what: str, error: Exception) -> None:
        """Log an error unless its like was told a moment ago."""
        cause = f"{what} {likeness_of(error)}"
        now = self._clock.monotonic()
        if now - self._told.get(cause, -_TELLS_EVERY) < _TELLS_EVERY:
            return
        self._told = {c: at for c, at in self._told.items() if now - at < _TELLS_EVERY}
        self._told[cause] = now
        if is_table_locked(error):
            log.warning("%s: %s: %s", what, self._who_has_locked(), words_of(error))
        elif fault_of(error) in _PASSING:
            log.warning("%s: %s", what, error)
        else:
            log.error("%s", what, exc_info=error)

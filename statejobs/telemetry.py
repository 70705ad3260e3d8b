"""What happens, as one closed set of events, for whoever subscribes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from statejobs.values.kinds import check_callable

log = logging.getLogger("statejobs")


class Event(StrEnum):
    """What a runner tells its subscribers. The fields of each are listed in the reference."""

    WORKER_STARTED = "worker.started"
    WORKER_STOPPED = "worker.stopped"
    JOBS_CLAIMED = "jobs.claimed"
    JOB_STARTED = "job.started"
    JOB_ENDED = "job.ended"
    """An attempt ended; `outcome` and `state` say how, `duration` in seconds how long it took."""
    JOB_LATE = "job.late"
    """A result came after the lease had ended; it was dropped, its writes rolled back."""
    JOB_POSTPONED = "job.postponed"
    JOB_STALE = "job.stale"
    JOB_RESCUED = "job.rescued"
    JOB_ABANDONED = "job.abandoned"
    """A thread did not stop after its timeout; its slot was given up."""
    KEY_HELD = "key.held"
    """None of its jobs can be claimed by this node, which leaves them to others for a while."""
    LEASES_LOST = "leases.lost"
    PRUNED = "pruned"
    """Old jobs or old history were deleted."""
    CLOCK_SET = "clock.set"
    """The clock of this node was more than a second off the database's."""
    DATABASE_AWAY = "database.away"
    DATABASE_BACK = "database.back"


@dataclass(frozen=True, slots=True)
class Happening:
    """One event with its fields."""

    event: Event
    fields: Mapping[str, Any] = field(default_factory=dict)


Subscriber = Callable[[Happening], None]


class Telemetry:
    """Tells subscribers what happens; one that fails is logged and kept."""

    def __init__(self) -> None:
        self._subscribers: list[tuple[Subscriber, frozenset[Event]]] = []

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call *subscriber* for each event from now on; return what ends it."""
        check_callable("subscribe()", subscriber, example="subscribe(print)")
        entry = (subscriber, frozenset(Event))
        self._subscribers.append(entry)
        return lambda: self._subscribers.remove(entry)

    def subscribe_once(self, subscriber: Subscriber, *events: Event) -> None:
        """Call *subscriber* for each of *events* from now on, if it is not called already."""
        entry = (subscriber, frozenset(events))
        if entry not in self._subscribers:
            self._subscribers.append(entry)

    def emit(self, event: Event, **fields: Any) -> None:
        """Tell everyone, in the thread where it happens."""
        for subscriber, events in tuple(self._subscribers):
            if event not in events:
                continue
            try:
                subscriber(Happening(event, fields))
            except Exception:  # a subscriber must not disturb a job
                log.exception("a subscriber of %s failed", event)

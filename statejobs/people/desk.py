"""What the questions and acts of people need of an app."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from statejobs.declare.registry import Registry
from statejobs.store.queries import JobQueries
from statejobs.store.store import Store
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.values.redaction import Redaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the questions and acts of people need of an app."""

    registry: Registry
    store: Store
    queries: JobQueries
    sources: Sources
    open_session: Callable[[], Session]
    queues: Mapping[str, int]
    """Queues of the app → limit."""
    lease: timedelta
    """How old the last heartbeat of a worker that lives may be."""
    telemetry: Telemetry
    """Who is told of what happens."""

    @property
    def redaction(self) -> Redaction:
        """What no answer shows."""
        return self.store.redaction

    def now(self) -> datetime:
        """Return the current time."""
        return self.sources.clock.now()

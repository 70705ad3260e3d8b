"""The keys that this node cannot run now, and when it tries again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from statejobs.values.clock import Clock

SHORTEST = timedelta(seconds=1)
LONGEST = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldKey:
    """Why jobs of a key are left queued, and until when."""

    reason: str
    error: Exception
    since: datetime
    """When it was held first; it may have been tried again since."""
    wait: timedelta
    until: float
    """Monotonic seconds."""


class HeldKeys:
    """Keys whose jobs this node leaves to others; safe between threads.

    Each time that a key is held again, it is held for twice as long, until one of its jobs could
    be claimed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._holds: dict[str, HeldKey] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._holds)

    def hold(
        self, key: str, reason: str, error: Exception, *, longest: timedelta = LONGEST
    ) -> HeldKey:
        """Leave the jobs of *key* alone for a while: no longer than *longest*."""
        with self._lock:
            before = self._holds.get(key)
            wait = SHORTEST if before is None else min(before.wait * 2, longest)
            hold = self._holds[key] = HeldKey(
                reason=reason,
                error=error,
                since=self._clock.now() if before is None else before.since,
                wait=wait,
                until=self._clock.monotonic() + wait.total_seconds(),
            )
        return hold

    def release(self, key: str) -> bool:
        """Forget the hold of *key*, whose jobs can be claimed; return whether it had one."""
        with self._lock:
            return self._holds.pop(key, None) is not None

    def free(self, keys: Sequence[str]) -> Sequence[str]:
        """Return those of *keys* that may be claimed now."""
        if not self._holds:
            return keys
        now = self._clock.monotonic()
        with self._lock:
            return [
                key
                for key in keys
                if key not in self._holds or self._holds[key].until <= now
            ]

    def all(self) -> dict[str, HeldKey]:
        """Return what is held, by key; also what may be tried again now."""
        with self._lock:
            return dict(self._holds)

    def as_json(self) -> str | None:
        """Return what is held for the row of this node; None when nothing is."""
        holds = self.all()
        if not holds:
            return None
        rows = [
            {
                "key": key,
                "reason": hold.reason,
                "since": hold.since.isoformat(),
                "retry_seconds": hold.wait.total_seconds(),
            }
            for key, hold in holds.items()
        ]
        return msgspec.json.encode(rows).decode()

"""What people ask about worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from statejobs.people.desk import Desk
from statejobs.runner.node import SILENT_NODE
from statejobs.values.shown import decoded, shown_row


@dataclass(frozen=True, kw_only=True)
class ShownWorker:
    """A worker process that lives, or died not long ago."""

    node: str
    host: str
    pid: int
    queues: Any
    """Queue → limit, as it registered."""
    version: str
    started_at: datetime
    beat_at: datetime
    clock_offset: float | None
    """Seconds by which its machine's clock is ahead of the database's."""
    held_keys: Any
    """Keys of jobs that it cannot claim: each with `key`, `reason`, `retry_seconds`."""
    lives: bool

    def serves(self, queue: str) -> bool:
        """Return whether it takes jobs of *queue*."""
        return isinstance(self.queues, dict) and queue in self.queues


def workers(desk: Desk) -> tuple[ShownWorker, ...]:
    """Return the worker processes that live, or died not long ago."""
    now = desk.now()
    rows = [shown_row(row, desk.redaction) for row in desk.queries.nodes()]
    # Where no worker lives, none forgets those that are silent.
    return tuple(
        _worker(desk, row, now) for row in rows if now - row["beat_at"] < SILENT_NODE
    )


def living_workers(desk: Desk) -> tuple[ShownWorker, ...]:
    """Return the worker processes that live."""
    return tuple(worker for worker in workers(desk) if worker.lives)


def _worker(desk: Desk, row: Mapping[str, Any], now: datetime) -> ShownWorker:
    return ShownWorker(
        node=row["id"],
        host=row["host"],
        pid=row["pid"],
        queues=decoded(row["queues"]),
        version=row["version"],
        started_at=row["started_at"],
        beat_at=row["beat_at"],
        clock_offset=row["clock_offset"],
        held_keys=decoded(row["held"]) if row["held"] else [],
        lives=now - row["beat_at"] < desk.lease,
    )

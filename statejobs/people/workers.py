"""What people ask about worker processes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Who serves a queue."""

    workers: int
    """How many that live."""
    keys: frozenset[str] | None
    """Whose jobs they claim; None when one of them does not say."""

    def takes(self, key: str) -> bool:
        """Return whether one of them claims jobs of *key*."""
        return self.workers > 0 and (self.keys is None or key in self.keys)


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


def serving(desk: Desk, queue: str) -> Serving:
    """Return which workers that live serve *queue*, and whose jobs they claim."""
    now = desk.now()
    rows = [row for row in desk.queries.nodes() if now - row["beat_at"] < desk.lease]
    found = [row for row in rows if _worker(desk, row, now).serves(queue)]
    claimed = [_declared_keys(row["declares"]) for row in found]
    told = [keys for keys in claimed if keys is not None]
    is_told = len(told) == len(claimed)
    return Serving(
        workers=len(found), keys=frozenset().union(*told) if is_told else None
    )


def unserved_queues(desk: Desk, *, but: Collection[str] = ()) -> list[str]:
    """Return the queues of the app that no worker serves which lives, *but* for some."""
    alive = living_workers(desk)
    return [
        queue
        for queue in desk.queues
        if queue not in but and not any(worker.serves(queue) for worker in alive)
    ]


def _declared_keys(declares: Any) -> frozenset[str] | None:
    content = decoded(declares) if isinstance(declares, str) else None
    keys = content.get("keys") if isinstance(content, dict) else None
    return frozenset(keys) if isinstance(keys, dict) else None


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

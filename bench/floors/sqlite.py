"""The standard library's sqlite3: claims of 100, and a transaction for each job or for each batch.

`python -m bench.floors.sqlite 1` commits each job, `… 100` each hundred.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import sys
import time
import uuid
from datetime import datetime, timedelta

from bench.app import SYNCHRONOUS_VARIABLE
from statejobs import utcnow

BATCH = 100
DUE = """
SELECT job.id, job.attempt + 1, orders.id, orders.state_version + 1, orders.total, orders.charged_at
FROM statejobs_jobs AS job JOIN orders ON orders.id = CAST(job.record_id AS INTEGER)
WHERE job.state = 'queued' AND job.queue = 'orders' AND job.key = 'order.charge'
    AND orders.state = 'queued'
ORDER BY job.priority, job.run_at, job.id LIMIT ?
"""
CLAIM = """
UPDATE statejobs_jobs
SET state = 'processing', attempt = attempt + 1, owner = ?, token = ?, lease_until = ?,
    started_at = ?, record_source = 'queued', cancel_requested = 0, progress = NULL
WHERE id = ?
"""
START = """
UPDATE orders SET state = 'processing', state_version = state_version + 1, state_changed_at = ?
WHERE id = ?
"""
MOVE = """
UPDATE orders
SET state = 'completed', state_version = state_version + 1, state_changed_at = ?, charged_at = ?
WHERE id = ? AND state = 'processing' AND state_version = ?
"""
FINISH = """
UPDATE statejobs_jobs
SET state = 'completed', finished_at = ?, owner = NULL, token = NULL, lease_until = NULL
WHERE id = ? AND attempt = ? AND token = ? AND state = 'processing'
"""
HISTORY = """
INSERT INTO statejobs_transitions
    (resource, record_id, name, source, target, version, job_id, attempt, duration, at)
VALUES ('Order', ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
Row = tuple[int, int, int, int, int, str | None]


class Base:
    """One process, one connection."""

    def __init__(self, path: str, synchronous: str, per_commit: int) -> None:
        self._per_commit = per_commit
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        for pragma in (
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            "foreign_keys = ON",
        ):
            self._connection.execute(f"PRAGMA {pragma}")

    def run_batch(self) -> int:
        """Claim a batch; run and finish it; return how many jobs there were."""
        raise NotImplementedError


class Orders(Base):
    """Moves records, too."""

    def run_batch(self) -> int:
        """Claim a batch; run and finish it."""
        execute, token = self._connection.execute, uuid.uuid4().hex
        execute("BEGIN IMMEDIATE")
        rows: list[Row] = execute(DUE, (BATCH,)).fetchall()
        self._start(rows, token)
        execute("COMMIT")
        for first in range(0, len(rows), self._per_commit):
            execute("BEGIN IMMEDIATE")
            for row in rows[first : first + self._per_commit]:
                self._run(row, token)
            execute("COMMIT")
        return len(rows)

    def _start(self, rows: list[Row], token: str) -> None:
        if not rows:
            return
        now, lease = as_text(utcnow()), as_text(utcnow() + timedelta(seconds=30))
        many = self._connection.executemany
        owner = f"floor-{os.getpid()}"
        many(CLAIM, [(owner, token, lease, now, job) for job, *_ in rows])
        many(START, [(now, record) for _, _, record, *_ in rows])
        many(
            HISTORY,
            [
                (
                    str(record),
                    "pay.start",
                    "queued",
                    "processing",
                    version,
                    job,
                    attempt,
                    None,
                    now,
                )
                for job, attempt, record, version, *_ in rows
            ],
        )

    def _run(self, row: Row, token: str) -> None:
        job, attempt, record, version, _total, _charged_at = row
        execute = self._connection.execute
        began = time.perf_counter()
        charged_at = as_text(utcnow())
        duration = time.perf_counter() - began
        now = as_text(utcnow())
        found = execute(MOVE, (now, charged_at, record, version)).rowcount
        found += execute(FINISH, (now, job, attempt, token)).rowcount
        if found != 2:  # noqa: PLR2004 - one record, one job
            raise RuntimeError(f"job {job} is no longer ours")
        execute(
            HISTORY,
            (
                str(record),
                "pay.complete",
                "processing",
                "completed",
                version + 1,
                job,
                attempt,
                duration,
                now,
            ),
        )


def as_text(moment: datetime) -> str:
    """Return *moment* as the column type stores it."""
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds")


def main(kind: type[Base]) -> None:
    """Run until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    path = os.environ["STATEJOBS_DATABASE"].removeprefix("sqlite:///")
    floor = kind(path, os.environ[SYNCHRONOUS_VARIABLE], int(sys.argv[1]))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wake:
        # where enqueues tell the workers of statejobs
        wake.bind(f"{path}-wake-{os.getpid()}")
        wake.settimeout(1)
        while True:
            if not floor.run_batch():
                with contextlib.suppress(TimeoutError):
                    wake.recv(16)


if __name__ == "__main__":
    main(Orders)

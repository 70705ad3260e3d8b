"""Tasks on PostgreSQL with psycopg: claims of 100, finished one by one or by the claim.

`python -m bench.floors.tasks_postgresql 1` commits each job, `… 100` each hundred.
"""

from __future__ import annotations

import os
import sys
import uuid
from datetime import timedelta

import psycopg

from bench.floors.serve import THREADS, serve
from statejobs import utcnow

BATCH = 100
CLAIM = """
WITH due AS (
    SELECT id FROM statejobs_jobs
    WHERE state = 'queued' AND queue = 'tasks' AND key = 'bench.noop'
    ORDER BY priority, run_at, id LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE statejobs_jobs AS job
SET state = 'processing', attempt = attempt + 1, owner = %(owner)s, token = %(token)s,
    lease_until = %(lease_until)s, started_at = %(now)s, cancel_requested = false, progress = NULL
FROM due WHERE job.id = due.id
RETURNING job.id
"""
FINISH = """
UPDATE statejobs_jobs
SET state = 'completed', finished_at = %(now)s, owner = NULL, token = NULL, lease_until = NULL
WHERE id = ANY(%(ids)s) AND token = %(token)s AND state = 'processing'
"""


def noop() -> None:
    """Do nothing."""


class Tasks:
    """One thread."""

    def __init__(self, url: str, per_commit: int) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._per_commit = per_commit

    def run_batch(self) -> int:
        """Claim, run, and finish in portions."""
        now, token = utcnow(), uuid.uuid4().hex
        rows = self._connection.execute(
            CLAIM,
            {
                "limit": BATCH,
                "owner": f"floor-{os.getpid()}",
                "token": token,
                "now": now,
                "lease_until": now + timedelta(seconds=30),
            },
        ).fetchall()
        for first in range(0, len(rows), self._per_commit):
            ids = [row[0] for row in rows[first : first + self._per_commit]]
            for _ in ids:
                noop()
            values = {"ids": ids, "token": token, "now": utcnow()}
            if self._connection.execute(FINISH, values).rowcount != len(ids):
                raise RuntimeError("a job is no longer ours")
        return len(rows)


if __name__ == "__main__":
    size = int(sys.argv[1])
    serve(lambda url: Tasks(url, size), threads=1 if size > 1 else THREADS)

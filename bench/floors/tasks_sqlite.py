"""Tasks on SQLite with the standard library: as `sqlite`, without records and history."""

from __future__ import annotations

import os
import uuid
from datetime import timedelta

from bench.floors.sqlite import BATCH, FINISH, Base, as_text, main
from statejobs import utcnow

DUE = """
SELECT id, attempt + 1 FROM statejobs_jobs
WHERE state = 'queued' AND queue = 'tasks' AND key = 'bench.noop'
ORDER BY priority, run_at, id LIMIT ?
"""
CLAIM = """
UPDATE statejobs_jobs
SET state = 'processing', attempt = attempt + 1, owner = ?, token = ?, lease_until = ?,
    started_at = ?, cancel_requested = 0, progress = NULL
WHERE id = ?
"""


def noop() -> None:
    """Do nothing."""


class Tasks(Base):
    """One process, one connection."""

    def run_batch(self) -> int:
        """Claim a batch; run and finish it."""
        execute, token = self._connection.execute, uuid.uuid4().hex
        execute("BEGIN IMMEDIATE")
        rows = execute(DUE, (BATCH,)).fetchall()
        now, lease = as_text(utcnow()), as_text(utcnow() + timedelta(seconds=30))
        owner = f"floor-{os.getpid()}"
        self._connection.executemany(
            CLAIM, [(owner, token, lease, now, job) for job, _ in rows]
        )
        execute("COMMIT")
        for first in range(0, len(rows), self._per_commit):
            execute("BEGIN IMMEDIATE")
            for job, attempt in rows[first : first + self._per_commit]:
                noop()
                if (
                    execute(FINISH, (as_text(utcnow()), job, attempt, token)).rowcount
                    != 1
                ):
                    raise RuntimeError(f"job {job} is no longer ours")
            execute("COMMIT")
        return len(rows)


if __name__ == "__main__":
    main(Tasks)

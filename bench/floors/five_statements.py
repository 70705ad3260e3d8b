"""Plain psycopg: load, act, move, finish and history are statements of a transaction per job."""

from __future__ import annotations

import time

import psycopg

from bench.floors.claim import Claimed, Claimer, finished
from bench.floors.serve import serve
from statejobs import utcnow

BATCH = 20
LOAD = """
SELECT id, total, charged_at, state, state_version, state_changed_at FROM orders
WHERE id = %(record)s AND state = 'processing' AND state_version = %(version)s
FOR NO KEY UPDATE
"""
MOVE = """
UPDATE orders
SET state = 'completed', state_version = state_version + 1, state_changed_at = %(now)s,
    charged_at = %(charged_at)s
WHERE id = %(record)s AND state = 'processing' AND state_version = %(version)s
"""
FINISH = """
UPDATE statejobs_jobs
SET state = 'completed', finished_at = %(now)s, owner = NULL, token = NULL, lease_until = NULL
WHERE id = %(job)s AND attempt = %(attempt)s AND token = %(token)s AND state = 'processing'
"""
HISTORY = """
INSERT INTO statejobs_transitions
    (resource, record_id, name, source, target, version, job_id, attempt, duration, at)
VALUES ('Order', %(record)s::text, 'pay.complete', 'processing', 'completed', %(version)s + 1,
    %(job)s, %(attempt)s, %(duration)s, %(now)s)
"""


class FiveStatements:
    """One thread."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._claimer = Claimer(BATCH)

    def run_batch(self) -> int:
        """Claim, and run one by one."""
        token, claimed = self._claimer.claim(self._connection)
        for one in claimed:
            with self._connection.transaction():
                self._run(one, token)
        return len(claimed)

    def _run(self, one: Claimed, token: str) -> None:
        values = one._asdict()
        if self._connection.execute(LOAD, values).fetchone() is None:
            raise psycopg.Rollback
        began = time.perf_counter()
        charged_at = utcnow()
        duration = time.perf_counter() - began
        values = finished(one, token, utcnow(), duration, charged_at=charged_at)
        for statement in (MOVE, FINISH, HISTORY):
            if self._connection.execute(statement, values).rowcount != 1:
                raise psycopg.Rollback


if __name__ == "__main__":
    serve(FiveStatements)

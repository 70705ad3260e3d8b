"""How the floors on PostgreSQL claim: one statement, which moves job and record, with history."""

from __future__ import annotations

import os
import uuid
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import psycopg

from statejobs import utcnow

CLAIM = """
WITH due AS (
    SELECT id FROM statejobs_jobs
    WHERE state = 'queued' AND queue = 'orders' AND key = 'order.charge'
    ORDER BY priority, run_at, id LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE statejobs_jobs AS job
    SET state = 'processing', attempt = attempt + 1, owner = %(owner)s, token = %(token)s,
        lease_until = %(lease_until)s, started_at = %(now)s, record_source = 'queued',
        cancel_requested = false, progress = NULL
    FROM due WHERE job.id = due.id
    RETURNING job.id, job.record_id::integer AS record, job.attempt
), moved AS (
    UPDATE orders
    SET state = 'processing', state_version = state_version + 1, state_changed_at = %(now)s
    FROM claimed WHERE orders.id = claimed.record AND orders.state = 'queued'
    RETURNING claimed.id AS job, claimed.attempt, orders.id AS record, orders.state_version
), history AS (
    INSERT INTO statejobs_transitions
        (resource, record_id, name, source, target, version, job_id, attempt, at)
    SELECT 'Order', record::text, 'pay.start', 'queued', 'processing', state_version, job, attempt,
        %(now)s
    FROM moved
)
SELECT job, attempt, record, state_version FROM moved
"""


class Claimed(NamedTuple):
    """A job that is ours, and its record."""

    job: int
    attempt: int
    record: int
    version: int


class Claimer:
    """Claims batches for one connection; its token fences every finish."""

    def __init__(self, limit: int) -> None:
        self._limit, self._owner = limit, f"floor-{os.getpid()}"

    def claim(self, connection: psycopg.Connection[Any]) -> tuple[str, list[Claimed]]:
        """Claim; return the token and the jobs."""
        now, token = utcnow(), uuid.uuid4().hex
        rows = connection.execute(
            CLAIM,
            {
                "limit": self._limit,
                "owner": self._owner,
                "token": token,
                "now": now,
                "lease_until": now + timedelta(seconds=30),
            },
        )
        return token, [Claimed(*row) for row in rows]


def finished(
    one: Claimed, token: str, now: datetime, duration: float, **columns: object
) -> dict[str, object]:
    """Return the parameters of a finish."""
    return {
        "job": one.job,
        "attempt": one.attempt,
        "token": token,
        "record": one.record,
        "version": one.version,
        "now": now,
        "duration": duration,
        **columns,
    }

"""Queued jobs whose claim raised: found again without decoding them, and settled one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Select

from statejobs.store.rows import job_of
from statejobs.store.statements import unclaimed as sql
from statejobs.store.statements.finish import insert_attempts
from statejobs.store.strangers import find_among_strangers, sought
from statejobs.values.failure import Failure
from statejobs.values.job import Job
from statejobs.values.lifecycle import Settlement
from statejobs.values.suspects import Suspects


@dataclass(frozen=True, slots=True)
class Candidate:
    """A queued job, as far as it is read before it is locked."""

    id: int
    key: str
    crashes: int
    attempt: int
    max_attempts: int

    @property
    def is_suspect(self) -> bool:
        """Whether a worker died while it held this job."""
        return self.crashes > 0


def find_queued(
    connection: Connection, queue: str, keys: Sequence[str], *, limit: int,
    suspects: Suspects = Suspects.ANY, sturdy: Sequence[str] = (), among_strangers: bool = False,
) -> list[Candidate]:  # fmt: skip
    """Return what `Store.lock_queued` would lock, best first."""
    given = sought(queue, keys, limit=limit, suspects=suspects, sturdy=sturdy)
    if among_strangers:
        return [Candidate(*row) for row in find_among_strangers(connection, given, suspects)]
    return [Candidate(*row) for row in connection.execute(_FIND[suspects], given)]


def find_last(connection: Connection, queue: str, key: str, *, limit: int) -> list[Candidate]:
    """Return the up to *limit* queued jobs of *key* in *queue* whose turn comes last."""
    given = {"queue": queue, "key": key, "limit": limit}
    return [Candidate(*row) for row in connection.execute(_LAST, given)]


def lock_listed(connection: Connection, ids: Sequence[int]) -> list[Job]:
    """Lock those of *ids* that are queued, best first, waiting for nobody."""
    rows = connection.execute(_lock(connection.dialect.name), {"ids": list(ids), "limit": len(ids)})
    return [job_of(row) for row in rows.all()]


def put_back(connection: Connection, job_id: int, until: datetime, why: str) -> None:
    """Put a queued job back until then, without an attempt."""
    connection.execute(_PUT_BACK, {"job_id": job_id, "until": until, "why": why})


def fail_queued(connection: Connection, job: Job, settlement: Settlement, now: datetime) -> bool:
    """Count an attempt of *job*, which is queued; False when it is so no more."""
    parameters = {
        "job_id": job.id,
        "was": job.attempt,
        "new_state": settlement.state.value,
        "next_run_at": settlement.run_at,
        "ended_at": now if settlement.is_ended else None,
        "why": settlement.reason,
    }
    return connection.execute(_FAIL, parameters).rowcount == 1


def discard_queued(connection: Connection, job_id: int, why: str, now: datetime) -> bool:
    """Give up a queued job by its id alone; False when it is queued no more."""
    parameters = {"job_id": job_id, "why": why, "now": now}
    return connection.execute(_DISCARD, parameters).rowcount == 1


def record_unread(
    connection: Connection, candidate: Candidate, failure: Failure, *, node: str, now: datetime
) -> None:
    """Write the attempt of a job that could not be read."""
    row = {
        "job_id": candidate.id,
        "attempt": candidate.attempt + 1,
        "outcome": "failed",
        "error_type": failure.error_type,
        "message": failure.message,
        "traceback": failure.traceback,
        "node": node,
        "started_at": None,
        "finished_at": now,
    }
    connection.execute(_ATTEMPT, row)


def locked_tables(connection: Connection) -> list[str]:
    """Return the tables that somebody has locked against being read or written."""
    if connection.dialect.name != "postgresql":
        return []
    return [f"{name!r} (process {pid})" for name, pid in connection.execute(_LOCKED_TABLES)]


@lru_cache(maxsize=2)
def _lock(dialect: str) -> Select[Any]:
    return sql.lock_listed_jobs(dialect)


_FIND = {suspects: sql.find_queued_jobs(suspects) for suspects in Suspects}
_LAST = sql.find_last_jobs()
_PUT_BACK = sql.put_back_job()
_FAIL = sql.fail_queued_job()
_ATTEMPT = insert_attempts()
_LOCKED_TABLES = sql.find_locked_tables()
_DISCARD = sql.discard_queued_job()

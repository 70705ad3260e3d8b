"""Queued jobs whose claim raised: found again without decoding them, and settled one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Executable, Select, bindparam, func, select, update

from statejobs.store.claim import best_queued, sought
from statejobs.store.conditions import (
    KEY_ORDER,
    is_key,
    more,
    readable,
    still_in,
)
from statejobs.store.finish import insert_attempt
from statejobs.store.strangers import find_among_strangers
from statejobs.store.tables import (
    IS_QUEUED,
    LARGEST_COUNT,
    jobs,
    literal_outcome,
    literal_state,
)
from statejobs.values.failure import Failure
from statejobs.values.job import Job, JobOutcome, JobState
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
    connection: Connection,
    queue: str,
    keys: Sequence[str],
    *,
    limit: int,
    suspects: Suspects = Suspects.ANY,
    sturdy: Sequence[str] = (),
    among_strangers: bool = False,
) -> list[Candidate]:
    """Return what a claim would lock, best first."""
    if among_strangers:
        found = find_among_strangers(
            connection, queue, keys, limit=limit, suspects=suspects, sturdy=sturdy
        )
    else:
        given = sought(queue, keys, limit=limit, suspects=suspects, sturdy=sturdy)
        found = connection.execute(_FIND[suspects], given).all()
    return [Candidate(*row) for row in found]


def find_last(
    connection: Connection, queue: str, key: str, *, limit: int
) -> list[Candidate]:
    """Return the up to *limit* queued jobs of *key* in *queue* whose turn comes last."""
    given = {"queue": queue, "key": key, "limit": limit}
    return [Candidate(*row) for row in connection.execute(_LAST, given)]


def put_back(connection: Connection, job_id: int, until: datetime, reason: str) -> None:
    """Put a queued job back until then, without an attempt."""
    connection.execute(_PUT_BACK, {"job_id": job_id, "until": until, "why": reason})


def fail_queued(
    connection: Connection, job: Job, settlement: Settlement, now: datetime
) -> bool:
    """Count an attempt of *job*, which is queued; False when it is so no more."""
    parameters = {
        "job_id": job.id,
        "was": job.attempt,
        "new_state": settlement.state.value,
        "next_run_at": settlement.run_at,
        "ended_at": now if settlement.is_ended else None,
        "how": settlement.outcome and settlement.outcome.value,
        "why": settlement.reason,
    }
    return connection.execute(_FAIL, parameters).rowcount == 1


def discard_queued(
    connection: Connection, job_id: int, reason: str, now: datetime
) -> bool:
    """Give up a queued job by its id alone; False when it is queued no more."""
    parameters = {"job_id": job_id, "why": reason, "now": now}
    return connection.execute(_DISCARD, parameters).rowcount == 1


def record_unread(
    connection: Connection,
    candidate: Candidate,
    failure: Failure,
    *,
    node: str,
    now: datetime,
) -> None:
    """Write the attempt of a job that could not be read."""
    row = {
        "job_id": candidate.id,
        "attempt": min(candidate.attempt + 1, LARGEST_COUNT),
        "outcome": "failed",
        "error_type": failure.error_type,
        "message": failure.message,
        "traceback": failure.traceback,
        "node": node,
        "started_at": None,
        "finished_at": now,
    }
    insert_attempt(connection, row)


_STILL_QUEUED = still_in(JobState.QUEUED)


def _find_queued_jobs(suspects: Suspects) -> Select[Any]:
    """Find, without locking, what a claim would lock."""
    return best_queued(select(*readable(jobs)), suspects)


def _find_last_jobs() -> Select[Any]:
    """Find, without locking, the queued jobs of a key whose turn comes last."""
    return (
        select(*readable(jobs))
        .where(IS_QUEUED, jobs.c.queue == bindparam("queue"), is_key(bindparam("key")))
        .order_by(*(column.desc() for column in KEY_ORDER))
        .limit(bindparam("limit"))
    )


def _put_back_job() -> Executable:
    """Put a queued job back for a while without an attempt, and note why."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), _STILL_QUEUED)
        .values(
            state=literal_state(JobState.SCHEDULED),
            run_at=bindparam("until", type_=jobs.c.run_at.type),
            reason=bindparam("why"),
        )
    )


def _fail_queued_job() -> Executable:
    """Count an attempt of a queued job whose record was not moved."""
    next_run_at = bindparam("next_run_at", type_=jobs.c.run_at.type)
    return (
        update(jobs)
        .where(
            jobs.c.id == bindparam("job_id"),
            jobs.c.attempt == bindparam("was"),
            _STILL_QUEUED,
        )
        .values(
            state=bindparam("new_state"),
            attempt=more(jobs.c.attempt),
            run_at=func.coalesce(next_run_at, jobs.c.run_at),
            finished_at=bindparam("ended_at", type_=jobs.c.finished_at.type),
            outcome=bindparam("how"),
            reason=bindparam("why"),
        )
    )


def _discard_queued_job() -> Executable:
    """Give up a queued job that cannot even be read."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), _STILL_QUEUED)
        .values(
            state=literal_state(JobState.DISCARDED),
            outcome=literal_outcome(JobOutcome.FAILED),
            reason=bindparam("why"),
            finished_at=bindparam("now", type_=jobs.c.finished_at.type),
            attempt=more(jobs.c.attempt),
        )
    )


_FIND = {suspects: _find_queued_jobs(suspects) for suspects in Suspects}
_LAST = _find_last_jobs()
_PUT_BACK = _put_back_job()
_FAIL = _fail_queued_job()
_DISCARD = _discard_queued_job()

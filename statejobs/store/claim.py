"""Queued jobs: found, locked and claimed, or put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, assert_never

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Select,
    and_,
    bindparam,
    false,
    null,
    or_,
    select,
    update,
)

from statejobs.store.conditions import KEY_ORDER, KEYS, is_key, is_listed, still_in
from statejobs.store.rows import job_of
from statejobs.store.tables import (
    IS_QUEUED,
    jobs,
    literal_outcome,
    literal_state,
    unindexed,
)
from statejobs.values.job import Job, JobOutcome, JobState
from statejobs.values.suspects import TOGETHER_AFTER, Suspects


def lock_queued(
    connection: Connection,
    queue: str,
    keys: Sequence[str],
    *,
    limit: int,
    suspects: Suspects = Suspects.ANY,
    sturdy: Sequence[str] = (),
) -> list[Job]:
    """Lock up to *limit* queued jobs of *queue*, best first, waiting for nobody.

    Args:
        connection: With the transaction of the claim.
        queue: Which queue.
        keys: Whose jobs.
        limit: How many.
        suspects: Which of those whose worker died before.
        sturdy: The keys whose suspects may share, where *suspects* are those.
    """
    parameters = sought(queue, keys, limit=limit, suspects=suspects, sturdy=sturdy)
    rows = connection.execute(_LOCK[suspects], parameters)
    return [job_of(row) for row in rows.all()]


def lock_trusted(
    connection: Connection, queue: str, key: str, *, limit: int
) -> list[Job]:
    """Lock up to *limit* queued jobs of *key* that are no suspects, waiting for nobody."""
    rows = connection.execute(
        _LOCK_TRUSTED, {"queue": queue, "key": key, "limit": limit}
    )
    return [job_of(row) for row in rows.all()]


def lock_listed(connection: Connection, ids: Sequence[int], *, most: int) -> list[Job]:
    """Lock up to *most* of those of *ids* that are queued, best first, waiting for nobody."""
    given = {"ids": list(ids), "limit": most}
    rows = connection.execute(_lock_listed_jobs(connection.dialect.name), given)
    return [job_of(row) for row in rows.all()]


def sought(
    queue: str,
    keys: Sequence[str],
    *,
    limit: int,
    suspects: Suspects,
    sturdy: Sequence[str],
) -> dict[str, Any]:
    """Return the parameters of a statement that looks for queued jobs to claim."""
    parameters: dict[str, Any] = {"queue": queue, "keys": list(keys), "limit": limit}
    if suspects is Suspects.SHARING:
        parameters["sturdy"] = list(sturdy)
    return parameters


def mark_processing(
    connection: Connection,
    ids: Sequence[int],
    *,
    source: str | None,
    node: str,
    token: str,
    now: datetime,
    until: datetime,
) -> None:
    """Claim locked jobs whose records were in *source*."""
    if not ids:
        return
    claimed = {
        "source": source,
        "node": node,
        "new_token": token,
        "now": now,
        "until": until,
    }
    marking = _mark_processing(connection.dialect.name)
    connection.execute(marking, {"ids": list(ids), **claimed})


def postpone(connection: Connection, ids: Sequence[int], until: datetime) -> None:
    """Put locked jobs back until *until*."""
    connection.execute(
        _postpone_jobs(connection.dialect.name), {"ids": list(ids), "until": until}
    )


def cancel_stale(
    connection: Connection, reasons: Mapping[int, str], now: datetime
) -> None:
    """Cancel locked, queued jobs, each for its reason."""
    rows = [
        {"job_id": id_, "why": reason, "now": now} for id_, reason in reasons.items()
    ]
    connection.execute(_STALE, rows)


def _lock_queued_jobs(suspects: Suspects) -> Select[Any]:
    """Lock the best queued jobs of a queue, waiting for nobody."""
    return best_queued(select(jobs), suspects).with_for_update(skip_locked=True)


def _lock_trusted_jobs() -> Select[Any]:
    """Lock the best queued jobs of a key that are no suspects, whatever else waits there."""
    return (
        select(jobs)
        .where(
            IS_QUEUED,
            jobs.c.queue == bindparam("queue"),
            is_key(bindparam("key")),
            _IS_TRUSTED,
        )
        .order_by(*KEY_ORDER)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
    )


@lru_cache(maxsize=2)
def _lock_listed_jobs(dialect: str) -> Select[Any]:
    """Lock the best of those of *ids* that are queued, waiting for nobody."""
    return (
        select(jobs)
        .where(is_listed(jobs.c.id, dialect), still_in(JobState.QUEUED))
        .order_by(jobs.c.priority, jobs.c.run_at, jobs.c.id)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
    )


def best_queued(found: Select[Any], suspects: Suspects) -> Select[Any]:
    """Return *found* for the best queued jobs of a queue.

    They are read in their order, whatever is known of their keys: the index of keys, which has
    another order, would have all of them sorted for each claim.
    """
    is_ours = unindexed(jobs.c.key).in_(KEYS)
    return (
        found.where(
            IS_QUEUED, jobs.c.queue == bindparam("queue"), is_ours, *beside(suspects)
        )
        .order_by(jobs.c.priority, jobs.c.run_at, jobs.c.id)
        .limit(bindparam("limit"))
    )


def beside(suspects: Suspects) -> Sequence[ColumnElement[bool]]:
    """Return what must hold of a queued job that is claimed beside what runs."""
    match suspects:
        case Suspects.ANY:
            return ()
        case Suspects.SHARING:
            return (or_(_IS_TRUSTED, _may_share()),)
        case Suspects.NONE:
            return (_IS_TRUSTED,)
        case _:
            assert_never(suspects)


def _may_share() -> ColumnElement[bool]:
    """Return what `runs_alone` says of queued jobs, turned round."""
    return and_(
        jobs.c.crashes <= TOGETHER_AFTER,
        jobs.c.attempt + 1 < jobs.c.max_attempts,
        jobs.c.key.in_(bindparam("sturdy", expanding=True)),
    )


@lru_cache(maxsize=2)
def _mark_processing(dialect: str) -> Executable:
    """Claim the jobs of `ids`: the attempt counts from here."""
    return (
        update(jobs)
        .where(is_listed(jobs.c.id, dialect))
        .values(
            state=literal_state(JobState.PROCESSING),
            # of a job that a worker of an older version has revived
            outcome=null(),
            attempt=jobs.c.attempt + 1,
            owner=bindparam("node"),
            token=bindparam("new_token"),
            lease_until=bindparam("until", type_=jobs.c.lease_until.type),
            started_at=bindparam("now", type_=jobs.c.started_at.type),
            record_source=bindparam("source"),
            cancel_requested=false(),
            progress=None,
        )
    )


@lru_cache(maxsize=2)
def _postpone_jobs(dialect: str) -> Executable:
    """Put queued jobs back for a moment, since someone holds their records."""
    return (
        update(jobs)
        .where(is_listed(jobs.c.id, dialect))
        .values(
            state=literal_state(JobState.SCHEDULED),
            run_at=bindparam("until", type_=jobs.c.run_at.type),
        )
    )


def _cancel_stale_job() -> Executable:
    """Cancel a locked, queued job whose record no longer satisfies its source."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"))
        .values(
            state=literal_state(JobState.CANCELLED),
            outcome=literal_outcome(JobOutcome.STALE),
            reason=bindparam("why"),
            finished_at=bindparam("now", type_=jobs.c.finished_at.type),
        )
    )


_IS_TRUSTED = jobs.c.crashes == 0


_LOCK = {suspects: _lock_queued_jobs(suspects) for suspects in Suspects}
_LOCK_TRUSTED = _lock_trusted_jobs()
_STALE = _cancel_stale_job()

"""Processing jobs: who holds them, until when, and what they note meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Executable,
    Select,
    bindparam,
    select,
    true,
    update,
)

from statejobs.store.conditions import STILL_PROCESSING, as_bytes, is_listed
from statejobs.store.lock_order import in_job_order
from statejobs.store.rows import Held, job_of, text_of
from statejobs.store.store import Store
from statejobs.store.tables import IS_OPEN, IS_PROCESSING, jobs
from statejobs.values.job import Job


def renew_leases(
    store: Store, ids: Sequence[int], *, node: str, until: datetime
) -> list[Held]:
    """Extend leases, waiting for nobody; return those that are still held."""
    with store.unwaiting(of_leases=True) as connection:
        rows = connection.execute(
            _renew_leases(store.dialect),
            {"ids": list(ids), "node": node, "until": until},
        ).all()
    return [
        Held(
            job_id=job_id,
            token=text_of(token) or "",
            cancel_requested=asked,
            reason=text_of(reason),
            is_renewed=bool(is_renewed),
        )
        for job_id, token, reason, asked, is_renewed in rows
    ]


def lock_jobs(connection: Connection, ids: Sequence[int]) -> None:
    """Lock jobs, waiting for others; in the order of jobs, so that none waits for us."""
    connection.execute(_lock_jobs(connection.dialect.name), {"ids": list(ids)})


def find_owned(store: Store, node: str, before: datetime) -> list[tuple[int, str]]:
    """Return id and token of the processing jobs of a node whose lease ends *before*."""
    with store.unwaiting() as connection:
        finding = _find_owned_jobs(store.dialect)
        rows = connection.execute(finding, {"node": node, "before": before}).all()
    return [(job_id, text_of(token) or "") for job_id, token in rows]


def lock_claimed(connection: Connection, job_id: int, token: str) -> Job | None:
    """Lock a job that still bears *token*; None when it does not, or someone holds it."""
    row = connection.execute(_LOCK_CLAIMED, {"job_id": job_id, "held": token}).first()
    return None if row is None else job_of(row)


def note_on_job(
    connection: Connection, job: Job, column: str, text: str | None
) -> bool:
    """Write *column* (progress or checkpoint) of a job we hold; False when we do not."""
    found = connection.execute(
        _note_on_job(column), {"job_id": job.id, "held": job.token, "note": text}
    )
    return found.rowcount == 1


def find_running_keys(connection: Connection, dedupe_keys: Sequence[str]) -> list[str]:
    """Return which of *dedupe_keys* belong to a job that runs."""
    return list(connection.scalars(_RUNNING, {"dedupe_keys": list(dedupe_keys)}))


@lru_cache(maxsize=2)
def _renew_leases(dialect: str) -> Executable:
    """Extend the leases of running jobs; those no longer ours are not returned.

    On PostgreSQL a row that someone has locked, as the open transaction of a user who enqueued its
    job again, is returned without being renewed: one row must not hold up the leases of all.
    """
    ours = (
        is_listed(jobs.c.id, dialect),
        jobs.c.owner == bindparam("node"),
        STILL_PROCESSING,
    )
    said = (as_bytes(column, dialect) for column in (jobs.c.token, jobs.c.reason))
    held = (jobs.c.id, *said, jobs.c.cancel_requested)
    renew = update(jobs).values(
        lease_until=bindparam("until", type_=jobs.c.lease_until.type)
    )
    if dialect != "postgresql":
        return renew.where(*ours).returning(*held, true().label("is_renewed"))
    locking = (
        select(jobs.c.id).where(*ours).with_for_update(key_share=True, skip_locked=True)
    )
    free = locking.cte("free")  # a CTE is read once
    renewed = (
        renew.where(jobs.c.id.in_(select(free.c.id)))
        .returning(jobs.c.id)
        .cte("renewed")
    )
    is_renewed = jobs.c.id.in_(select(renewed.c.id)).label("is_renewed")
    return select(*held, is_renewed).where(*ours)


@lru_cache(maxsize=2)
def _lock_jobs(dialect: str) -> Select[Any]:
    """Lock jobs by their ids, in the order of jobs."""
    listed = select(jobs.c.id).where(is_listed(jobs.c.id, dialect))
    order = in_job_order(jobs.c.dedupe_key, dialect)
    return listed.order_by(*order, jobs.c.id).with_for_update(key_share=True)


@lru_cache(maxsize=2)
def _find_owned_jobs(dialect: str) -> Select[Any]:
    """Find, without locking, the processing jobs of a node whose lease ends *before*."""
    return select(jobs.c.id, as_bytes(jobs.c.token, dialect)).where(
        IS_PROCESSING,
        jobs.c.lease_until < bindparam("before", type_=jobs.c.lease_until.type),
        jobs.c.owner == bindparam("node"),
    )


def _lock_claimed_job() -> Select[Any]:
    """Lock one processing job by the token of its claim, waiting for nobody."""
    return (
        select(jobs)
        .where(
            jobs.c.id == bindparam("job_id"),
            jobs.c.token == bindparam("held"),
            STILL_PROCESSING,
        )
        .with_for_update(skip_locked=True)
    )


@lru_cache(maxsize=2)
def _note_on_job(column: str) -> Executable:
    """Write progress or checkpoint of a job that is still ours."""
    return (
        update(jobs)
        .where(
            jobs.c.id == bindparam("job_id"),
            jobs.c.token == bindparam("held"),
            STILL_PROCESSING,
        )
        .values({column: bindparam("note")})
    )


def _find_running_jobs() -> Select[Any]:
    """Return which of `dedupe_keys` belong to a job that runs."""
    keys: BindParameter[str] = bindparam("dedupe_keys", expanding=True)
    return select(jobs.c.dedupe_key).where(
        jobs.c.dedupe_key.in_(keys), IS_OPEN, STILL_PROCESSING
    )


_LOCK_CLAIMED = _lock_claimed_job()
_RUNNING = _find_running_jobs()

"""Take back jobs whose lease ran out, and put aside those whose record cannot be moved back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Executable,
    Select,
    and_,
    bindparam,
    exists,
    false,
    or_,
    select,
    update,
)

from statejobs.store.statements.conditions import KEYS, STILL_PROCESSING
from statejobs.store.tables import IS_OPEN, IS_PROCESSING, jobs, literal_state, nodes
from statejobs.values.job import JobState


def _is_abandoned(is_processing: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return whether the lease of a job ran out, and its node is silent.

    A node that beats holds the job, and somebody's lock kept it from renewing the lease; or it
    does not know of the job, and then it is waited for until the lease has been over for long.
    """
    time = jobs.c.lease_until.type
    beats = exists().where(
        nodes.c.id == jobs.c.owner,
        nodes.c.beat_at >= bindparam("beats_since", type_=nodes.c.beat_at.type),
    )
    return and_(
        is_processing,
        jobs.c.lease_until < bindparam("now", type_=time),
        or_(jobs.c.lease_until < bindparam("long_ago", type_=time), ~beats),
    )


def find_expired_jobs() -> Select[Any]:
    """Find, without locking, processing jobs whose lease ran out, longest first.

    Returns no time: one that no `datetime` holds must not hide the others.
    """
    found = (jobs.c.id, jobs.c.key, jobs.c.attempt, jobs.c.max_attempts, jobs.c.crashes)
    return (
        select(*found, jobs.c.owner, jobs.c.token)
        .where(_is_abandoned(IS_PROCESSING), jobs.c.key.in_(KEYS))
        .order_by(jobs.c.lease_until, jobs.c.id)
        .limit(bindparam("limit"))
        .offset(bindparam("skip"))
    )


def lock_expired_job() -> Select[Any]:
    """Lock one processing job whose lease is still over, waiting for nobody."""
    return (
        select(jobs)
        .where(jobs.c.id == bindparam("job_id"), _is_abandoned(STILL_PROCESSING))
        .with_for_update(skip_locked=True, of=jobs)
    )


def lock_same_claim(*, waits: bool) -> Select[Any]:
    """Lock a processing job that nobody has claimed since it was looked at."""
    return (
        select(jobs.c.id)
        .where(
            jobs.c.id == bindparam("job_id"),
            STILL_PROCESSING,
            jobs.c.token.is_not_distinct_from(bindparam("held", type_=jobs.c.token.type)),
        )
        .with_for_update(skip_locked=not waits)
    )


def put_aside() -> Executable:
    """Let a locked job wait for its next rescue; the new token keeps its old worker out."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"))
        .values(
            owner=None,
            token=bindparam("new_token"),
            lease_until=bindparam("until", type_=jobs.c.lease_until.type),
            reason=bindparam("why"),
            attempt=jobs.c.attempt + bindparam("counted", type_=jobs.c.attempt.type),
            crashes=jobs.c.crashes + bindparam("crashed", type_=jobs.c.crashes.type),
        )
    )


def discard_stuck_job() -> Executable:
    """Give up a locked job whose record nobody can move; the record stays where it is."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"))
        .values(
            state=literal_state(JobState.DISCARDED),
            reason=bindparam("why"),
            finished_at=bindparam("now", type_=jobs.c.finished_at.type),
            crashes=jobs.c.crashes + bindparam("crashed", type_=jobs.c.crashes.type),
            run_again=false(),
            cancel_requested=false(),
            owner=None,
            token=None,
            lease_until=None,
        )
    )


def find_running_job() -> Select[Any]:
    """Find a processing job among those with the given dedupe keys."""
    keys: BindParameter[str] = bindparam("dedupe_keys", expanding=True)
    return select(jobs.c.id).where(jobs.c.dedupe_key.in_(keys), IS_OPEN, STILL_PROCESSING).limit(1)

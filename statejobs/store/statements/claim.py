"""Find, lock and claim jobs, and hold what was claimed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Executable,
    Select,
    and_,
    bindparam,
    false,
    or_,
    select,
    true,
    update,
)

from statejobs.store.lock_order import in_job_order
from statejobs.store.statements.conditions import (
    KEY_ORDER,
    KEYS,
    STILL_PROCESSING,
    is_key,
    is_listed,
)
from statejobs.store.tables import (
    IS_OPEN,
    IS_PROCESSING,
    IS_QUEUED,
    jobs,
    literal_state,
    unindexed,
)
from statejobs.values.job import JobState
from statejobs.values.suspects import TOGETHER_AFTER, Suspects


def lock_queued_jobs(suspects: Suspects) -> Select[Any]:
    """Lock the best queued jobs of a queue, waiting for nobody."""
    return best_queued(select(jobs), suspects).with_for_update(skip_locked=True)


def lock_trusted_jobs() -> Select[Any]:
    """Lock the best queued jobs of a key that are no suspects, whatever else waits there."""
    return (
        select(jobs)
        .where(IS_QUEUED, jobs.c.queue == bindparam("queue"), is_key(bindparam("key")), _IS_TRUSTED)
        .order_by(*KEY_ORDER)
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
        found.where(IS_QUEUED, jobs.c.queue == bindparam("queue"), is_ours, *beside(suspects))
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


def find_running_jobs() -> Select[Any]:
    """Return which of `dedupe_keys` belong to a job that runs."""
    keys: BindParameter[str] = bindparam("dedupe_keys", expanding=True)
    return select(jobs.c.dedupe_key).where(jobs.c.dedupe_key.in_(keys), IS_OPEN, STILL_PROCESSING)


def mark_processing(dialect: str) -> Executable:
    """Claim jobs: the attempt counts from here. Those of `ids`, or one each time: `job_id`."""
    has_arrays = dialect == "postgresql"
    return (
        update(jobs)
        .where(is_listed(jobs.c.id, dialect) if has_arrays else jobs.c.id == bindparam("job_id"))
        .values(
            state=literal_state(JobState.PROCESSING),
            attempt=jobs.c.attempt + 1,
            owner=bindparam("by"),
            token=bindparam("new_token"),
            lease_until=bindparam("until", type_=jobs.c.lease_until.type),
            started_at=bindparam("now", type_=jobs.c.started_at.type),
            record_source=bindparam("source"),
            cancel_requested=false(),
            progress=None,
        )
    )


def postpone_jobs(dialect: str) -> Executable:
    """Put queued jobs back for a moment, since someone holds their records."""
    return (
        update(jobs)
        .where(is_listed(jobs.c.id, dialect))
        .values(
            state=literal_state(JobState.SCHEDULED),
            run_at=bindparam("until", type_=jobs.c.run_at.type),
        )
    )


def cancel_stale_job() -> Executable:
    """Cancel a locked, queued job whose record no longer satisfies its source."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"))
        .values(
            state=literal_state(JobState.CANCELLED),
            reason=bindparam("why"),
            finished_at=bindparam("now", type_=jobs.c.finished_at.type),
        )
    )


def renew_leases(dialect: str) -> Executable:
    """Extend the leases of running jobs; those no longer ours are not returned.

    On PostgreSQL a row that someone has locked, as the open transaction of a user who enqueued its
    job again, is returned without being renewed: one row must not hold up the leases of all.
    """
    ours = (is_listed(jobs.c.id, dialect), jobs.c.owner == bindparam("by"), STILL_PROCESSING)
    held = (jobs.c.id, jobs.c.token, jobs.c.cancel_requested, jobs.c.reason)
    renew = update(jobs).values(lease_until=bindparam("until", type_=jobs.c.lease_until.type))
    if dialect != "postgresql":
        return renew.where(*ours).returning(*held, true().label("is_renewed"))
    locking = select(jobs.c.id).where(*ours).with_for_update(key_share=True, skip_locked=True)
    free = locking.cte("free")  # a CTE is read once
    renewed = renew.where(jobs.c.id.in_(select(free.c.id))).returning(jobs.c.id).cte("renewed")
    is_renewed = jobs.c.id.in_(select(renewed.c.id)).label("is_renewed")
    return select(*held, is_renewed).where(*ours)


def lock_jobs(dialect: str) -> Select[Any]:
    """Lock jobs by their ids, in the order of jobs."""
    listed = select(jobs.c.id).where(is_listed(jobs.c.id, dialect))
    order = in_job_order(jobs.c.dedupe_key, dialect)
    return listed.order_by(*order, jobs.c.id).with_for_update(key_share=True)


def find_owned_jobs() -> Select[Any]:
    """Find, without locking, the processing jobs of a node whose lease ends *before*."""
    return select(jobs.c.id, jobs.c.token).where(
        IS_PROCESSING,
        jobs.c.lease_until < bindparam("before", type_=jobs.c.lease_until.type),
        jobs.c.owner == bindparam("by"),
    )


def lock_claimed_job() -> Select[Any]:
    """Lock one processing job by the token of its claim, waiting for nobody."""
    return (
        select(jobs)
        .where(
            jobs.c.id == bindparam("job_id"), jobs.c.token == bindparam("held"), STILL_PROCESSING
        )
        .with_for_update(skip_locked=True)
    )


def note_on_job(column: str) -> Executable:
    """Write progress or checkpoint of a job that is still ours."""
    return (
        update(jobs)
        .where(
            jobs.c.id == bindparam("job_id"), jobs.c.token == bindparam("held"), STILL_PROCESSING
        )
        .values({column: bindparam("note")})
    )


_IS_TRUSTED = jobs.c.crashes == 0

"""Counts, and the jobs of a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Executable,
    Select,
    SQLColumnExpression,
    bindparam,
    func,
    select,
    union_all,
)

from statejobs.store.tables import (
    HOLDS_KEY,
    IS_ENDED,
    IS_OPEN,
    IS_PROCESSING,
    IS_QUEUED,
    IS_WAITING_FOR_TIME,
    jobs,
    literal_state,
    transitions,
)
from statejobs.values.job import ENDED, JobState
from statejobs.values.lifecycle import STUCK
from statejobs.values.waiting import OTHER_CODE


def count_jobs(most_ended: int) -> Executable:
    """Count jobs by queue and state; of each ended state only the newest *most_ended*.

    Every index of ended jobs would cost each finish, and none has their queue.
    """
    state = literal_state(JobState.QUEUED).label("state")
    count = func.count().label("count")
    queued = select(jobs.c.queue, state, count).where(IS_QUEUED)
    others = select(jobs.c.queue, jobs.c.state, func.count())
    live = (
        queued.group_by(jobs.c.queue),  # its index has the queue
        *(
            others.where(condition).group_by(jobs.c.queue, jobs.c.state)
            for condition in (IS_WAITING_FOR_TIME, IS_PROCESSING)
        ),
    )
    return union_all(*live, *(_count_newest(state, most_ended) for state in ENDED))


def count_queued_beside(queues: Sequence[str]) -> Executable:
    """Count the queued jobs of each queue that is none of *queues*."""
    return (
        select(jobs.c.queue, func.count().label("count"))
        .where(IS_QUEUED, jobs.c.queue.not_in(queues))
        .group_by(jobs.c.queue)
        .order_by(jobs.c.queue)
    )


def count_waiting(keys: Sequence[str]) -> Executable:
    """Count the waiting jobs of each of *keys*, in two parts."""
    counted = select(jobs.c.key, func.count().label("count"))
    parts = (
        counted.where(condition, jobs.c.key.in_(keys)).group_by(jobs.c.key)
        for condition in (IS_QUEUED, IS_WAITING_FOR_TIME)
    )
    return union_all(*parts)


def oldest_queued() -> Executable:
    """Return for each queue and priority since when its oldest queued job waits.

    Steps from one pair to the next along the index of claims, whatever waits in between.
    """
    pair = jobs.alias("pair")
    place = (jobs.c.queue, jobs.c.priority, jobs.c.run_at, jobs.c.id)
    first = select(jobs.c.id).where(IS_QUEUED).order_by(*place).limit(1)
    in_queue = first.where(
        jobs.c.queue == pair.c.queue, jobs.c.priority > pair.c.priority
    )
    in_another = first.where(jobs.c.queue > pair.c.queue)
    following = func.coalesce(
        *(query.correlate(pair).scalar_subquery() for query in (in_queue, in_another))
    )
    firsts = select(first.scalar_subquery().label("id")).cte("firsts", recursive=True)
    firsts = firsts.union_all(
        select(following).join_from(firsts, pair, pair.c.id == firsts.c.id)
    )
    return select(jobs.c.queue, jobs.c.run_at).join_from(
        firsts, jobs, jobs.c.id == firsts.c.id
    )


def find_ids(*, after: int, until: int, limit: int) -> Select[Any]:
    """Find ids of jobs above *after* and up to *until*, the smallest first."""
    return (
        select(jobs.c.id)
        .where(jobs.c.id > after, jobs.c.id <= until)
        .order_by(jobs.c.id)
        .limit(limit)
    )


def find_stuck_jobs() -> Select[Any]:
    """Return jobs that were given up because their record could not be moved, newest first."""
    return (
        select(jobs)
        .where(
            IS_ENDED,
            jobs.c.state == literal_state(JobState.DISCARDED),
            jobs.c.reason.startswith(STUCK, autoescape=True),
        )
        .order_by(jobs.c.finished_at.desc(), jobs.c.id.desc())
    )


def find_put_aside_jobs() -> Select[Any]:
    """Return jobs that no worker holds, since their record cannot be moved yet, the next first."""
    return (
        select(jobs)
        .where(IS_PROCESSING, jobs.c.owner.is_(None))
        .order_by(jobs.c.lease_until, jobs.c.id)
    )


def count_jobs_for_other_code() -> Select[Any]:
    """Count by key and reason the jobs that are put back, due before then, for other code."""
    return (
        select(jobs.c.key, jobs.c.reason, func.count().label("count"))
        .where(
            IS_WAITING_FOR_TIME,
            jobs.c.state == literal_state(JobState.SCHEDULED),
            jobs.c.run_at <= bindparam("before", type_=jobs.c.run_at.type),
            jobs.c.reason.startswith(OTHER_CODE, autoescape=True),
        )
        .group_by(jobs.c.key, jobs.c.reason)
        .order_by(func.count().desc(), jobs.c.key)
        .limit(20)
    )


def count_by(state: SQLColumnExpression[Any]) -> Select[Any]:
    """Count records by *state*: a column, or the attribute of a mapped class."""
    return select(state, func.count()).group_by(state)


def find_holder() -> Select[Any]:
    """Find the job that has `dedupe_key`, and lets no other have it."""
    return select(jobs.c.id).where(
        jobs.c.dedupe_key == bindparam("dedupe_key"), HOLDS_KEY
    )


def find_jobs_of_record(
    resource: str, record_id: str, keys: Sequence[str]
) -> Executable:
    """Find the ids of the jobs of a record: the completed in its history, the others by key."""
    completed = (
        select(transitions.c.job_id)
        .where(transitions.c.resource == resource, transitions.c.record_id == record_id)
        .where(transitions.c.job_id.is_not(None))
    )
    others = select(jobs.c.id).where(
        jobs.c.dedupe_key.in_([f"{key}:{record_id}" for key in keys]), IS_OPEN
    )
    return completed.union(others)


def _count_newest(state: JobState, most: int) -> Select[Any]:
    newest = (
        select(jobs.c.queue)
        .where(jobs.c.state == literal_state(state), IS_ENDED)
        .order_by(jobs.c.finished_at.desc())
        .limit(most)
        .subquery()
    )
    return select(newest.c.queue, literal_state(state), func.count()).group_by(
        newest.c.queue
    )

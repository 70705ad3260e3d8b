"""Jobs that people take in hand: cancelled, asked to stop, let go on, or changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Boolean,
    Connection,
    Executable,
    Select,
    bindparam,
    case,
    func,
    null,
    select,
    update,
)

from statejobs.store.conditions import (
    STILL_PROCESSING,
    as_bytes,
    is_listed,
    still_in,
)
from statejobs.store.engines.channel import tell_owner
from statejobs.store.lock_order import in_job_order
from statejobs.store.rows import text_of
from statejobs.store.tables import jobs, literal_state, unindexed
from statejobs.values.job import ENDED, WAITING, Job, JobOutcome, JobState


def take_jobs(
    connection: Connection, ids: Sequence[int], *, waits: bool
) -> dict[int, str]:
    """Lock jobs; return the state of each that is there, and that nobody else holds.

    Those that others hold are waited for, or left out.
    """
    query = _take_jobs(connection.dialect.name, waits=waits)
    rows = connection.execute(query, {"ids": list(ids)})
    return {job_id: text_of(state) or "" for job_id, state in rows}


def restore_actors(connection: Connection, held: Sequence[Job]) -> None:
    """Give jobs back the actor and the tenant that they have in *held*."""
    connection.execute(
        _RESTORE_ACTOR,
        [{"job_id": job.id, "by": job.actor, "within": job.tenant} for job in held],
    )


def cancel_waiting(
    connection: Connection,
    job_ids: Sequence[int],
    reason: str,
    now: datetime,
    *,
    outcome: JobOutcome,
) -> None:
    """Cancel those of *job_ids* that wait; *outcome* says how they ended."""
    given = {"how": outcome.value, "why": reason, "now": now}
    connection.execute(_CANCEL, [{"job_id": job_id, **given} for job_id in job_ids])


def request_cancel(connection: Connection, job_ids: Sequence[int], reason: str) -> None:
    """Ask those of *job_ids* that run to stop."""
    connection.execute(
        _request_cancel(connection.dialect.name),
        [{"job_id": job_id, "why": reason} for job_id in job_ids],
    )


def requeue(
    connection: Connection, ids: Sequence[int], allowance: int, now: datetime
) -> None:
    """Queue those of the jobs *ids* at once that wait or have ended."""
    connection.execute(
        _requeue_jobs(connection.dialect.name),
        {"ids": list(ids), "granted": allowance, "now": now},
    )


def edit_waiting(
    connection: Connection,
    ids: Sequence[int],
    *,
    run_at: datetime | None,
    priority: int | None,
    queue: str | None,
    now: datetime,
) -> None:
    """Change when, how urgently and where those of the jobs *ids* run that wait."""
    given: dict[str, Any] = {"run_at": run_at, "priority": priority, "queue": queue}
    given = {name: value for name, value in given.items() if value is not None}
    statement = _edit_waiting_jobs(connection.dialect.name, frozenset(given))
    if run_at is not None:
        given["is_due"] = run_at <= now
    connection.execute(
        statement,
        {"ids": list(ids), **{f"new_{name}": value for name, value in given.items()}},
    )


@lru_cache(maxsize=4)
def _take_jobs(dialect: str, *, waits: bool) -> Select[Any]:
    """Lock jobs by their ids, in the order of jobs."""
    state = as_bytes(jobs.c.state, dialect)
    listed = select(jobs.c.id, state).where(is_listed(jobs.c.id, dialect))
    order = in_job_order(jobs.c.dedupe_key, dialect)
    return listed.order_by(*order, jobs.c.id).with_for_update(
        key_share=True, skip_locked=not waits
    )


@lru_cache(maxsize=16)
def _edit_waiting_jobs(dialect: str, edited: frozenset[str]) -> Executable:
    """Change the columns *edited* of jobs that wait; one whose time has come is queued."""
    changed: dict[str, Any] = {
        name: bindparam(f"new_{name}", type_=jobs.c[name].type) for name in edited
    }
    if "run_at" in edited:
        failed = unindexed(jobs.c.state) == literal_state(JobState.FAILED)
        changed["state"] = case(
            (bindparam("new_is_due", type_=Boolean()), literal_state(JobState.QUEUED)),
            (failed, literal_state(JobState.FAILED)),
            else_=literal_state(JobState.SCHEDULED),
        )
    return (
        update(jobs)
        .where(is_listed(jobs.c.id, dialect), still_in(*WAITING))
        .values(changed)
    )


def _cancel_waiting_job() -> Executable:
    """Cancel a job that waits."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), still_in(*WAITING))
        .values(
            state=literal_state(JobState.CANCELLED),
            outcome=bindparam("how"),
            reason=bindparam("why"),
            finished_at=bindparam("now", type_=jobs.c.finished_at.type),
        )
    )


@lru_cache(maxsize=2)
def _request_cancel(dialect: str) -> Executable:
    """Ask a running job to stop, and tell its node."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), STILL_PROCESSING)
        .values(
            cancel_requested=tell_owner(jobs.c.owner, dialect), reason=bindparam("why")
        )
    )


def _restore_actor() -> Executable:
    """Give a job back whom and for whom it was asked for."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"))
        .values(actor=bindparam("by"), tenant=bindparam("within"))
    )


@lru_cache(maxsize=2)
def _requeue_jobs(dialect: str) -> Executable:
    """Queue waiting or ended jobs at once; an ended one gets as many attempts as at first."""
    ended = still_in(*ENDED)
    allowance = bindparam("granted", type_=jobs.c.allowance.type)
    return (
        update(jobs)
        .where(is_listed(jobs.c.id, dialect), still_in(*WAITING, *ENDED))
        .values(
            state=literal_state(JobState.QUEUED),
            run_at=bindparam("now", type_=jobs.c.run_at.type),
            max_attempts=case(
                (ended, jobs.c.attempt + func.coalesce(jobs.c.allowance, allowance)),
                else_=jobs.c.max_attempts,
            ),
            crashes=case((ended, 0), else_=jobs.c.crashes),
            snoozes=case((ended, 0), else_=jobs.c.snoozes),
            returned=0,
            result=None,
            outcome=null(),
            tick_at=None,
            finished_at=None,
            progress=None,
            reason=None,
        )
    )


_RESTORE_ACTOR = _restore_actor()
_CANCEL = _cancel_waiting_job()

"""Jobs whose records left the state that promised them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

from sqlalchemy import Connection, Executable, bindparam, update

from statejobs.store.conditions import STILL_PROCESSING, still_in
from statejobs.store.engines.channel import tell_owner
from statejobs.store.lock_order import job_order
from statejobs.store.tables import IS_OPEN, jobs, literal_state
from statejobs.values.job import WAITING, JobOutcome, JobState


def cancel_left(
    connection: Connection,
    left: Mapping[str, str],
    *,
    outcome: JobOutcome,
    now: datetime,
) -> None:
    """Cancel the waiting jobs (dedupe key → reason) of records that left them behind.

    Args:
        connection: The caller's.
        left: Dedupe keys with the reason.
        outcome: Whether the records left the state that promised them, or are gone.
        now: When.
    """
    rows = [
        {
            "left_key": key,
            "left_outcome": outcome.value,
            "left_reason": left[key],
            "left_at": now,
        }
        for key in _in_order(left)
    ]
    connection.execute(_LEAVE, rows)


def ask_left_to_stop(connection: Connection, left: Mapping[str, str]) -> None:
    """Ask the running jobs (dedupe key → reason) to stop whose records were moved away."""
    rows = [{"left_key": key, "left_reason": left[key]} for key in _in_order(left)]
    connection.execute(ask_to_cancel(connection.dialect.name), rows)


def _in_order(left: Mapping[str, str]) -> list[str]:
    return sorted(left, key=job_order)


def cancel_left_jobs() -> Executable:
    """Cancel waiting jobs whose record has left the state that promised them, or is gone."""
    return (
        update(jobs)
        .where(jobs.c.dedupe_key == bindparam("left_key"), IS_OPEN, still_in(*WAITING))
        .values(
            state=literal_state(JobState.CANCELLED),
            outcome=bindparam("left_outcome"),
            reason=bindparam("left_reason"),
            finished_at=bindparam("left_at", type_=jobs.c.finished_at.type),
        )
    )


@lru_cache(maxsize=2)
def ask_to_cancel(dialect: str) -> Executable:
    """Tell a running job, and its node, that its record was moved away."""
    return (
        update(jobs)
        .where(jobs.c.dedupe_key == bindparam("left_key"), IS_OPEN, STILL_PROCESSING)
        .values(
            cancel_requested=tell_owner(jobs.c.owner, dialect),
            reason=bindparam("left_reason"),
        )
    )


_LEAVE = cancel_left_jobs()

"""Jobs whose records left the state that promised them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, Executable, bindparam, update

from statejobs.store.conditions import STILL_PROCESSING, still_in
from statejobs.store.lock_order import job_order
from statejobs.store.tables import IS_OPEN, jobs, literal_state
from statejobs.values.job import WAITING, JobState


def cancel_left(
    connection: Connection, left: Mapping[str, str], *, running: bool, now: datetime
) -> None:
    """End the jobs (dedupe key → reason) whose records left the state that promised them.

    Args:
        connection: The caller's.
        left: Dedupe keys with the reason.
        running: The records left the state in which their job runs: ask it to stop.
        now: When.
    """
    rows = [
        {"left_key": key, "left_reason": left[key], "left_at": now}
        for key in sorted(left, key=job_order)
    ]
    connection.execute(_ASK if running else _LEAVE, rows)


def cancel_left_jobs(states: Sequence[JobState] = WAITING) -> Executable:
    """Cancel waiting jobs whose record has left the state that promised them."""
    return (
        update(jobs)
        .where(jobs.c.dedupe_key == bindparam("left_key"), IS_OPEN, still_in(*states))
        .values(
            state=literal_state(JobState.CANCELLED),
            reason=bindparam("left_reason"),
            finished_at=bindparam("left_at", type_=jobs.c.finished_at.type),
        )
    )


def ask_to_cancel() -> Executable:
    """Tell a running job that its record was moved away."""
    return (
        update(jobs)
        .where(jobs.c.dedupe_key == bindparam("left_key"), IS_OPEN, STILL_PROCESSING)
        .values(cancel_requested=True, reason=bindparam("left_reason"))
    )


_LEAVE = cancel_left_jobs()
_ASK = ask_to_cancel()

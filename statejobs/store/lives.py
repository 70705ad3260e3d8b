"""No job serves two records: it ends with its own, also where the next one has the same key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    Executable,
    Row,
    Select,
    bindparam,
    case,
    false,
    select,
    update,
)

from statejobs.store.conditions import (
    STILL_PROCESSING,
    has_dedupe_key,
    listed_keys,
    still_in,
)
from statejobs.store.lock_order import in_job_order
from statejobs.store.revise import cancel_waiting, request_cancel
from statejobs.store.tables import HOLDS_KEY, jobs, literal_outcome, literal_state
from statejobs.values.job import ENDED, WAITING, JobOutcome, JobState

REUSED = "its record is gone, and another has its key"
DELETED = "its record was deleted"


def part_from_keys(
    connection: Connection, dedupe_keys: Sequence[str], now: datetime
) -> None:
    """End whatever earlier records left under *dedupe_keys*; nothing goes on with it."""
    found = _lock(connection, dedupe_keys)
    if found:
        rows = [{"job_id": row.id, "why": REUSED, "now": now} for row in found]
        connection.execute(_PART, rows)


def end_with_record(
    connection: Connection, dedupe_keys: Sequence[str], now: datetime
) -> None:
    """Cancel the waiting jobs of records that were deleted, and ask the running ones to stop."""
    found = _lock(connection, dedupe_keys)
    waiting = [row.id for row in found if row.state in WAITING]
    running = [row.id for row in found if row.state == JobState.PROCESSING]
    if waiting:
        cancel_waiting(connection, waiting, DELETED, now, outcome=JobOutcome.STALE)
    if running:
        request_cancel(connection, running, DELETED)


def _lock(connection: Connection, dedupe_keys: Sequence[str]) -> Sequence[Row[Any]]:
    dialect = connection.dialect.name
    locking = _lock_holders(dialect)
    return connection.execute(locking, listed_keys(dedupe_keys, dialect)).all()


@lru_cache(maxsize=2)
def _lock_holders(dialect: str) -> Select[Any]:
    """Lock the jobs that hold one of `dedupe_keys`."""
    return (
        select(jobs.c.id, jobs.c.state)
        .where(has_dedupe_key(dialect), HOLDS_KEY)
        .order_by(*in_job_order(jobs.c.dedupe_key, dialect))
        .with_for_update()
    )


def _part_from_key() -> Executable:
    """Let a job go on no longer: neither its worker, nor whoever enqueues for the same key."""
    has_ended = still_in(*ENDED)
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"))
        .values(
            dedupe_key=None,
            state=case(
                (has_ended, jobs.c.state), else_=literal_state(JobState.CANCELLED)
            ),
            outcome=case(
                (has_ended, jobs.c.outcome),
                (STILL_PROCESSING, literal_outcome(JobOutcome.SUPERSEDED)),
                else_=literal_outcome(JobOutcome.STALE),
            ),
            reason=case((has_ended, jobs.c.reason), else_=bindparam("why")),
            finished_at=case(
                (has_ended, jobs.c.finished_at),
                else_=bindparam("now", type_=jobs.c.finished_at.type),
            ),
            run_again=false(),
            cancel_requested=false(),
            owner=None,
            token=None,
            lease_until=None,
        )
    )


_PART = _part_from_key()

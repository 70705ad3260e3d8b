"""No job serves two records: it ends with its own, also where the next one has the same key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import (
    Connection,
    Executable,
    Row,
    Select,
    Text,
    any_,
    bindparam,
    case,
    false,
    func,
    select,
    update,
)
from sqlalchemy.dialects import postgresql

from statejobs.store.conditions import STILL_PROCESSING, still_in
from statejobs.store.lock_order import in_job_order
from statejobs.store.revise import cancel_waiting, request_cancel
from statejobs.store.tables import IS_OPEN, jobs, literal_outcome, literal_state
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
    keys: Any = list(dedupe_keys)
    given = keys if dialect == "postgresql" else msgspec.json.encode(keys).decode()
    locking = _lock_open_jobs(dialect)
    return connection.execute(locking, {"dedupe_keys": given}).all()


@lru_cache(maxsize=2)
def _lock_open_jobs(dialect: str) -> Select[Any]:
    """Lock the jobs that one of `dedupe_keys` belongs to; a list as JSON on SQLite."""
    key = jobs.c.dedupe_key
    if dialect == "postgresql":
        # an array: the text stays the same, so it is prepared once
        is_listed = key == any_(bindparam("dedupe_keys", type_=postgresql.ARRAY(Text)))
    else:
        each = func.json_each(bindparam("dedupe_keys")).table_valued("value")
        is_listed = key.in_(select(each.c.value))
    return (
        select(jobs.c.id, jobs.c.state)
        .where(is_listed, IS_OPEN)
        .order_by(*in_job_order(key, dialect))
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

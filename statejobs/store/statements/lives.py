"""Find the jobs of records that are gone or new, and part them from whoever has the key next."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, Text, any_, bindparam, case, false, func, select, update
from sqlalchemy.dialects import postgresql

from statejobs.store.lock_order import in_job_order
from statejobs.store.statements.conditions import still_in
from statejobs.store.tables import IS_OPEN, jobs, literal_state
from statejobs.values.job import ENDED, JobState


def lock_open_jobs(dialect: str) -> Select[Any]:
    """Lock the jobs that one of `dedupe_keys` belongs to; a list as JSON on SQLite."""
    key = jobs.c.dedupe_key
    if dialect == "postgresql":  # an array: the text stays the same, so it is prepared once
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


def part_from_key() -> Any:
    """Let a job go on no longer: neither its worker, nor whoever enqueues for the same key."""
    has_ended = still_in(*ENDED)
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"))
        .values(
            dedupe_key=None,
            state=case((has_ended, jobs.c.state), else_=literal_state(JobState.CANCELLED)),
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

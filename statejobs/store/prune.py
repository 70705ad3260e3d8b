"""Deletes what is old: ended jobs with their attempts, and history, a batch at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Executable,
    Integer,
    Select,
    Text,
    bindparam,
    cast,
    delete,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
)

from statejobs.store.conditions import as_bytes, is_listed, still_in
from statejobs.store.rows import text_of
from statejobs.store.tables import (
    IS_ENDED,
    LARGEST_COUNT,
    attempts,
    jobs,
    literal_state,
    schedules,
    ticks,
    transitions,
)
from statejobs.values.job import JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedJob:
    """A job that may be old enough to go."""

    id: int
    key: str
    record_id: str | None


Instant = datetime | bytes
"""When a job ended; as SQLite holds it, which may be no time at all."""
START: Instant = datetime(1, 1, 1, tzinfo=UTC)


def find_ended(
    connection: Connection,
    state: JobState,
    before: datetime,
    *,
    after: Instant,
    limit: int,
) -> tuple[list[int], Instant]:
    """Find jobs that ended in *state* between *after* and *before*, oldest first.

    Returns:
        Their ids, those of every instant but the last when there are more than *limit*; and the
        last instant that is complete. So nothing is read twice, however many jobs ended at one
        instant, as those of a bulk transition do; no index has their ids in order.
    """
    ended = (jobs.c.state == literal_state(state), IS_ENDED)
    at = as_bytes(jobs.c.finished_at, connection.dialect.name).label("at")
    query = (
        select(jobs.c.id, at)
        .where(*ended, jobs.c.finished_at > _bound(after), jobs.c.finished_at < before)
        .order_by(jobs.c.finished_at)
        .limit(limit)
    )
    rows = connection.execute(query).all()
    if len(rows) < limit:
        return [row.id for row in rows], before
    first = rows[0].at
    last = rows[-1].at
    if first == last:
        at_once = select(jobs.c.id).where(*ended, jobs.c.finished_at == _bound(last))
        return [*connection.scalars(at_once)], last
    complete = [row for row in rows if row.at != last]
    return [row.id for row in complete], complete[-1].at


def _bound(instant: Instant) -> Any:
    """Return what a time is compared with; any bytes may be the text of one."""
    return cast(literal(instant), Text) if isinstance(instant, bytes) else instant


def read_ended(
    connection: Connection,
    state: JobState,
    before: datetime,
    ids: Sequence[int],
    *,
    now: datetime,
    lock: bool,
) -> list[EndedJob]:
    """Return those of *ids* that ended in *state* before then, and hold no key *now*.

    With *lock* they are locked, waiting for nobody; those that others hold are left out.
    """
    dialect = connection.dialect.name
    names = (as_bytes(column, dialect) for column in (jobs.c.key, jobs.c.record_id))
    until = jobs.c.unique_until
    is_free = until.is_(None) | (until <= now)
    query = select(jobs.c.id, *names).where(
        is_listed(jobs.c.id, dialect), still_in(state), jobs.c.finished_at < before
    )
    if state is JobState.COMPLETED:  # what gave up holds no key
        query = query.where(is_free)
    if lock:
        query = query.with_for_update(skip_locked=True)
    return [
        EndedJob(id=job_id, key=text_of(key) or "", record_id=text_of(record_id))
        for job_id, key, record_id in connection.execute(query, {"ids": ids})
    ]


def count_attempts(connection: Connection, ids: Collection[int]) -> int:
    """Return how many attempts the jobs *ids* have."""
    is_theirs = is_listed(attempts.c.job_id, connection.dialect.name)
    query = select(func.count()).where(is_theirs)
    return connection.scalar(query, {"ids": list(ids)}) or 0


def delete_jobs(connection: Connection, ids: Sequence[int]) -> int:
    """Delete jobs that are locked, with their attempts; return how many attempts."""
    if not ids:
        return 0
    dialect = connection.dialect.name
    theirs = delete(attempts).where(is_listed(attempts.c.job_id, dialect))
    gone = connection.execute(theirs, {"ids": ids})
    connection.execute(delete(jobs).where(is_listed(jobs.c.id, dialect)), {"ids": ids})
    return gone.rowcount


def find_history(
    connection: Connection, before: datetime, *, after: int, limit: int
) -> list[int]:
    """Return the ids of rows older than *before* among the *limit* that follow the id *after*.

    Rows are written in the order of time, all but, so that no index on the time is needed.
    """
    next_rows = (
        select(transitions.c.id, transitions.c.at)
        .where(transitions.c.id > after)
        .order_by(transitions.c.id)
        .limit(limit)
        .subquery()
    )
    query = (
        select(next_rows.c.id).where(next_rows.c.at < before).order_by(next_rows.c.id)
    )
    return [row[0] for row in connection.execute(query)]


def delete_history(connection: Connection, ids: Sequence[int]) -> None:
    """Delete rows of history."""
    rows = delete(transitions).where(
        is_listed(transitions.c.id, connection.dialect.name)
    )
    connection.execute(rows, {"ids": ids})


def count_ticks(connection: Connection, before: datetime) -> int:
    """Return how many ticks are older than then, and needed no more."""
    old = _old_ticks(connection.dialect.name).subquery("old")
    query = select(func.count()).select_from(old)
    return connection.scalar(query, {"before": before, "most": LARGEST_COUNT}) or 0


def delete_ticks(connection: Connection, before: datetime, *, limit: int) -> int:
    """Delete up to *limit* ticks of each schedule that are older than then; return how many."""
    given = {"before": before, "most": limit}
    gone = connection.execute(_delete_ticks(connection.dialect.name), given)
    return len(gone.all())  # the driver of SQLite counts no DELETE after WITH


def _delete_ticks(dialect: str) -> Executable:
    """Delete the ticks that `_old_ticks` finds."""
    # a CTE is read once; an IN-subquery's LIMIT may run twice
    old = _old_ticks(dialect).cte("old")
    is_old = tuple_(ticks.c.key, ticks.c.at).in_(select(old.c.key, old.c.at))
    return delete(ticks).where(is_old).returning(ticks.c.at)


def _old_ticks(dialect: str) -> Select[Any]:
    """Find finished ticks, but for the last two of each schedule that were not skipped.

    They are looked for schedule by schedule: no index has the ticks of all in the order of time.
    """
    later = ticks.alias("later")
    last_but_one = (
        select(later.c.at)
        .where(later.c.key == schedules.c.key, later.c.why.is_(None))
        .order_by(later.c.at.desc())
        .limit(1)
        .offset(1)
        .correlate(schedules)
        .scalar_subquery()
    )
    is_needed_no_more = or_(ticks.c.why.is_not(None), ticks.c.at < last_but_one)
    is_old = ticks.c.at < bindparam("before", type_=ticks.c.at.type)
    is_theirs = ticks.c.key == schedules.c.key
    most = bindparam("most", type_=Integer)
    found = select(ticks.c.key, ticks.c.at).where(
        is_old, ticks.c.done_at.is_not(None), is_needed_no_more
    )
    if dialect != "postgresql":
        return found.join_from(schedules, ticks, is_theirs).limit(most)
    # without a limit for each, the planner may read all ticks there are
    of_one = (
        found.where(is_theirs).order_by(ticks.c.at).limit(most).correlate(schedules)
    )
    each = of_one.lateral("each")
    return select(each.c.key, each.c.at).join_from(schedules, each, true())

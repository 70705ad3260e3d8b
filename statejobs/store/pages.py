"""Statements that make jobs of the records which a tick picks, a page of them at a time.

No record is locked: who holds one is neither waited for nor missed. Whether one has a job is asked
by a subquery of the page, which no database turns into a join that would read jobs of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)

from statejobs.store.bulk import jobs_of_rows
from statejobs.store.candidates import Candidates
from statejobs.store.claim_records import whether_matching
from statejobs.store.conditions import (
    has_dedupe_key,
    is_in,
    is_listed,
    listed_keys,
)
from statejobs.store.enqueue import adopt, row_of, upsert
from statejobs.store.naming import Names, names_within
from statejobs.store.record_rows import read_rows
from statejobs.store.records import Identity
from statejobs.store.rows import job_of
from statejobs.store.tables import (
    HOLDS_KEY,
    jobs,
    literal_outcome,
    literal_state,
    unindexed,
)
from statejobs.store.upsert import going_on
from statejobs.values.job import GAVE_UP, Job, JobOutcome, JobState, NewJob


@dataclass(frozen=True, kw_only=True, eq=False)
class Picking:
    """Which records the ticks of a trigger pick."""

    candidates: Candidates
    record_id: ColumnElement[str]
    """The key as text."""
    prefix: str
    """What comes before it in the dedupe keys of the jobs."""
    former_prefixes: tuple[str, ...] = ()
    is_unique: bool = False
    """Whether a job that has completed may hold its key."""
    tenant: ColumnElement[str] | None = None
    """Whose a record is, as text."""

    @property
    def keys(self) -> tuple[ColumnElement[Any], ...]:
        """The columns of the primary key."""
        return self.candidates.records.keys

    @cached_property
    def names(self) -> Names:
        """What we call things in its statements: nothing that its class or `where` names."""
        asked = select(self.candidates.whole).where(*self.candidates.conditions)
        ordered = asked.order_by(*self.candidates.order_by)
        return names_within(self.candidates.records.table, [ordered])


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some records of a tick."""

    after: Identity | None
    """The key after which it begins; None for the first page."""
    size: int
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a page."""

    found: int
    enqueued: int
    last: Identity | None
    """The key of its last record; None where it found none."""
    skipped: int = 0
    """Records of which no job could be made."""
    reason: str | None = None
    """Why not of the first of them."""


NOTHING = Written(found=0, enqueued=0, last=None)


def write_page(
    connection: Connection,
    picking: Picking,
    page: Page,
    same: Mapping[str, Any],
    *,
    salt: str,
    due: Sequence[datetime],
) -> Written:
    """Enqueue the job of each record of *page*.

    Args:
        connection: With the transaction of the page.
        picking: Which records.
        page: Which of them.
        same: What all jobs share, by column.
        salt: A fresh random id, of which the idempotency keys are made.
        due: When they run: the first, and every nth after it, at the first time.
    """
    settle_keys(connection, picking, page)
    names = picking.names
    found = select_page(picking, page).cte(names["page"])
    made = jobs_of_rows(
        connection.dialect.name,
        _numbered(picking, found, page, due),
        same,
        key_prefix=picking.prefix,
        salt=salt,
        meet=_let_wait,
    )
    end = _end_of(picking, found)
    if connection.dialect.name == "postgresql":
        # one statement, and so one snapshot: no record comes between the count and the jobs
        counted = select(func.count()).select_from(made.cte(names["made"]))
        end = end.add_columns(counted.scalar_subquery())
        row = connection.execute(end).one_or_none()
        if row is None:
            return NOTHING
        *last, count, enqueued = row
    else:
        row = connection.execute(end).one_or_none()
        if row is None:
            return NOTHING
        *last, count = row
        enqueued = len(connection.execute(made).all())
    return Written(found=count, enqueued=enqueued, last=tuple(last))


def read_page(connection: Connection, picking: Picking, page: Page) -> list[Identity]:
    """Return the keys of the records of *page*, in its order."""
    found = select_page(picking, page).subquery(picking.names["page"])
    numbers = range(len(picking.keys))
    query = select(*(found.c[picking.names[f"pk_{n}"]] for n in numbers))
    return [tuple(row) for row in connection.execute(query)]


def enqueue_picked(connection: Connection, new: Sequence[NewJob]) -> int:
    """Enqueue the jobs of some records of a page; return how many it made or let go on."""
    rows = [row_of(job) for job in new]
    return len(upsert(connection, rows, None, _let_wait).all())


@dataclass(frozen=True, slots=True)
class Candidacy:
    """How a record stands to what a tick asks of it."""

    state: str
    changed_at: datetime | None
    matches: bool


def read_candidacy(
    connection: Connection, candidates: Candidates, identity: Identity
) -> Candidacy | None:
    """Return how a record stands to what is asked of *candidates*; None when it is gone."""
    records = candidates.records
    columns = (records.stored_state, records.changed_at, whether_matching(candidates))
    found = read_rows(connection, records, [identity], *columns, whole=candidates.whole)
    for state, changed_at, matches in found.values():
        return Candidacy(state, changed_at, bool(matches))
    return None


def find_holders(connection: Connection, dedupe_keys: Sequence[str]) -> list[Job]:
    """Return the jobs that hold one of *dedupe_keys*."""
    dialect = connection.dialect.name
    rows = connection.execute(_find_holders(dialect), listed_keys(dedupe_keys, dialect))
    return [job_of(row) for row in rows]


@lru_cache(maxsize=2)
def _find_holders(dialect: str) -> Select[Any]:
    """Find the jobs that hold one of `dedupe_keys`."""
    held = select(jobs).where(has_dedupe_key(dialect), HOLDS_KEY)
    return held.order_by(jobs.c.id)


def settle_keys(connection: Connection, picking: Picking, page: Page) -> None:
    """Let jobs that may go on have the dedupe keys of today, and those that are over none."""
    for former in picking.former_prefixes:
        held = _held_ids(connection, picking, page, former)
        keys = {f"{former}{of}": f"{picking.prefix}{of}" for of, _ in held}
        if keys:
            adopt(connection, keys, None)
    if not picking.is_unique:
        return
    ids = [job_id for _, job_id in _held_ids(connection, picking, page, picking.prefix)]
    if ids:
        free = _free_keys(connection.dialect.name)
        connection.execute(free, {"ids": ids, "now": page.now})


def _held_ids(
    connection: Connection, picking: Picking, page: Page, prefix: str
) -> list[tuple[str, int]]:
    """Return those records of *page* whose key with *prefix* is held, and the jobs that do."""
    query = select_page(picking, page, is_settled=False)
    query = query.add_columns(_held(picking, prefix, jobs.c.id).label("job_id"))
    found = query.subquery(picking.names["page"])
    held = select(found.c.record_id, found.c.job_id).where(found.c.job_id.is_not(None))
    return [(row.record_id, row.job_id) for row in connection.execute(held)]


@lru_cache(maxsize=2)
def _free_keys(dialect: str) -> Update:
    """Let completed jobs of `ids` lose keys that they hold no longer."""
    is_over = jobs.c.unique_until <= bindparam("now", type_=jobs.c.unique_until.type)
    completed = unindexed(jobs.c.state) == literal_state(JobState.COMPLETED)
    freed = update(jobs).where(is_listed(jobs.c.id, dialect), completed, is_over)
    return freed.values(unique_until=None)


def select_page(
    picking: Picking, page: Page, *, is_settled: bool = True
) -> Select[Any]:
    """Select the records of *page*: their keys, and these as text."""
    candidates, names = picking.candidates, picking.names
    keys = picking.keys
    query = (
        select(
            *(key.label(names[f"pk_{n}"]) for n, key in enumerate(keys)),
            picking.record_id.label("record_id"),
        )
        .select_from(candidates.whole)
        .where(*candidates.conditions, _may_pick(picking, picking.prefix, page))
    )
    if picking.tenant is not None:
        query = query.add_columns(picking.tenant.label("tenant"))
    for former in picking.former_prefixes:
        has_none = _has_no_job(picking, former)
        may = has_none if is_settled else _may_pick(picking, former, page)
        query = query.where(may)
    if page.after is not None:
        query = query.where(_is_after(keys, page.after))
    return query.order_by(*candidates.order_by, *keys).limit(page.size)


def _may_pick(picking: Picking, prefix: str, page: Page) -> ColumnElement[bool]:
    """Return whether no job holds the key of a record, or one that may go on."""
    moved = picking.candidates.records.changed_at > jobs.c.finished_at
    is_stale = jobs.c.outcome == literal_outcome(JobOutcome.STALE)
    ways = [(and_(is_in(*GAVE_UP), or_(is_stale, moved)), 1)]
    if picking.is_unique:
        is_over = jobs.c.unique_until <= literal(page.now, jobs.c.unique_until.type)
        ways.append((and_(is_in(JobState.COMPLETED), is_over), 1))
    held = _held(picking, prefix, case(*ways, else_=0))
    may: ColumnElement[int] = func.coalesce(held, literal_column("1"))
    return may == literal_column("1")


def _has_no_job(picking: Picking, prefix: str) -> ColumnElement[bool]:
    has_none: ColumnElement[bool] = _held(picking, prefix, literal_column("1")).is_(
        None
    )
    return has_none


def _held(picking: Picking, prefix: str, asked: ColumnElement[Any]) -> Any:
    """Return what is *asked* of the job that holds the key of a record; NULL if none does."""
    dedupe_key = literal(prefix, Text()) + picking.record_id
    holder = select(asked).where(jobs.c.dedupe_key == dedupe_key, HOLDS_KEY)
    return holder.correlate_except(jobs).scalar_subquery()


def _is_after(
    keys: Sequence[ColumnElement[Any]], identity: Identity
) -> ColumnElement[bool]:
    after = [
        literal(value, key.type) for key, value in zip(keys, identity, strict=True)
    ]
    if len(keys) == 1:
        return keys[0] > after[0]
    return tuple_(*keys) > tuple_(*after)


def _numbered(picking: Picking, found: CTE, page: Page, due: Sequence[datetime]) -> Any:
    """Return the records of a page as rows of jobs, as far as these differ, numbered by `n`."""
    columns = [found.c.record_id]
    if picking.tenant is not None:
        columns.append(found.c.tenant)
    n = func.row_number().over().label("n")
    numbered = select(*columns, n).subquery(picking.names["numbered"])
    if len(due) == 1:
        return numbered
    step = (numbered.c.n - literal_column("1")) % len(due)
    run_at = _one_of(step, [literal(at, jobs.c.run_at.type) for at in due])
    states = [JobState.SCHEDULED if at > page.now else JobState.QUEUED for at in due]
    state = _one_of(step, [literal(one.value, jobs.c.state.type) for one in states])
    return select(*numbered.c, run_at.label("run_at"), state.label("state")).subquery(
        picking.names["spread"]
    )


def _one_of(
    step: ColumnElement[int], values: Sequence[ColumnElement[Any]]
) -> ColumnElement[Any]:
    """Return the value with the number *step*."""
    *_, last = values
    ways = [(step == literal_column(str(n)), one) for n, one in enumerate(values[:-1])]
    return case(*ways, else_=last)


def _end_of(picking: Picking, found: CTE) -> Select[Any]:
    """Select the key of the last record of a page, and how many there are; nothing of none."""
    count = select(func.count()).select_from(found).scalar_subquery()
    keys = [found.c[picking.names[f"pk_{n}"]] for n in range(len(picking.keys))]
    last = [key.desc() for key in keys]
    return select(*keys, count).order_by(*last).limit(1)


def _let_wait(statement: Any) -> Any:
    """Let what gave up go on, unless it ended since the page was begun; leave all else alone."""
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=[jobs.c.dedupe_key],
        index_where=HOLDS_KEY,
        set_={**going_on(new), "started_at": None},
        where=and_(is_in(*GAVE_UP), jobs.c.finished_at <= new.enqueued_at),
    )

"""Statements that write jobs for many records at once, without reading them.

Each takes *rows*: a selectable with the columns of `MovedRow`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    CTE,
    ColumnElement,
    Executable,
    FromClause,
    Integer,
    Select,
    String,
    Text,
    bindparam,
    case,
    column,
    func,
    literal,
    literal_column,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql

from statejobs.store.conditions import STILL_PROCESSING, still_in
from statejobs.store.engines.channel import tell_owner
from statejobs.store.lock_order import in_job_order
from statejobs.store.naming import Names
from statejobs.store.tables import HOLDS_KEY, jobs, literal_outcome, literal_state
from statejobs.store.upsert import NEW_JOB_COLUMNS, Meet, enqueue_jobs
from statejobs.values.job import WAITING, Enqueued, JobOutcome, JobState


class MovedRow(NamedTuple):
    """A record that moved together with others."""

    record_id: str
    version: int
    was: str | None
    """The state that it left; None for one that was created."""
    tenant: Any = None
    """Whose it is, where its class says so."""


_AS_RECORDS = (
    Enqueued.INSERTED,
    Enqueued.COALESCED,
    Enqueued.RUN_AGAIN,
    Enqueued.RETRIED,
)
"""What becomes of a request for a record whose trigger is not `Unique`."""


class RowWithJob(NamedTuple):
    """A record that moved, with what its job has that no other has."""

    record_id: str
    version: int
    was: str | None
    args: str
    meta: str | None


_OF_JOB = ("args", "meta")


def rows_from_python(
    dialect: str, moved: Sequence[MovedRow] | Sequence[RowWithJob]
) -> FromClause:
    """Return *moved* as something to select from; `n` numbers them."""
    of_job = _OF_JOB if isinstance(moved[0], RowWithJob) else ()
    plain = moved if of_job else [row[:3] for row in moved]
    if dialect == "sqlite":
        each = func.json_each(
            literal(msgspec.json.encode(plain).decode(), Text())
        ).table_valued(column("key", Integer), column("value", Text))
        own = [
            func.json_extract(each.c.value, f"$[{n}]", type_=Text()).label(name)
            for n, name in enumerate(of_job, start=3)
        ]
        return select(
            each.c.key.label("n"),
            func.json_extract(each.c.value, "$[0]", type_=Text()).label("record_id"),
            func.json_extract(each.c.value, "$[1]", type_=Integer()).label("version"),
            func.json_extract(each.c.value, "$[2]", type_=String()).label("was"),
            *own,
        ).subquery("moved_rows")
    ids, versions, left, *others = zip(*plain, strict=True)
    texts: Any = postgresql.ARRAY(Text())
    numbers: Any = postgresql.ARRAY(Integer())
    return (
        func.unnest(
            literal(list(ids), texts),
            literal(list(versions), numbers),
            literal(list(left), texts),
            *(literal(list(values), texts) for values in others),
        )
        .table_valued(
            column("record_id", Text),
            column("version", Integer),
            column("was", Text),
            *(column(name, Text) for name in of_job),
            with_ordinality="n",
            name="moved_rows",
        )
        .render_derived()
    )


def numbered(moved: CTE, names: Names) -> FromClause:
    """Return *moved* as rows, numbered by `n`."""
    return select(*moved.c, func.row_number().over().label("n")).subquery(
        names["moved_rows"]
    )


def jobs_of_rows(
    dialect: str,
    rows: FromClause,
    same: Mapping[str, Any],
    *,
    key_prefix: str,
    salt: str,
    meet: Meet | None = None,
) -> Any:
    """Enqueue a job for each of *rows*, by the rules of `enqueue_jobs`; returns its `outcome`.

    Args:
        dialect: The database's.
        rows: The records, with what each job has of its own, as columns of jobs.
        same: The values that all jobs share.
        key_prefix: What stands before the record's id in a `dedupe_key`.
        salt: A fresh random id, of which the idempotency keys are made.
        meet: As for `enqueue_jobs`.
    """
    dedupe_key = literal(key_prefix, Text()) + rows.c.record_id
    number = rows.c.n.cast(String)
    varied = {
        "record_id": rows.c.record_id,
        "dedupe_key": dedupe_key,
        "idempotency_key": literal(f"{salt}.", String()) + number,
    }
    own = [name for name in NEW_JOB_COLUMNS if name in rows.c and name not in varied]
    varied |= {name: rows.c[name] for name in own}
    selected = (
        select(*_columns(jobs, NEW_JOB_COLUMNS, varied, same))
        .select_from(rows)
        .where(literal_column("true"))  # SQLite takes ON CONFLICT for a join without it
        .order_by(*in_job_order(dedupe_key, dialect))
    )
    statement: Any = enqueue_jobs(dialect, meet=meet)
    return statement.from_select(NEW_JOB_COLUMNS, selected).returning(
        _outcome().label("outcome")
    )


def fused(
    moved: CTE, history: Any | None, enqueued: Sequence[Any], names: Names
) -> Select[Any]:
    """Return one statement for all; it counts the records and the jobs of each outcome."""
    counts = [select(func.count()).select_from(moved).scalar_subquery().label("moved")]
    statement = select(*counts)
    if enqueued:
        each = [
            jobs_made.cte(names[f"enqueued_{n}"])
            for n, jobs_made in enumerate(enqueued)
        ]
        made = union_all(*(select(one.c.outcome) for one in each)).subquery(
            names["enqueued"]
        )
        counts += [
            func.count().filter(made.c.outcome == _text(o)).label(o.value)
            for o in _AS_RECORDS
        ]
        statement = select(*counts).select_from(made)
    return (
        statement
        if history is None
        else statement.add_cte(history.cte(names["history"]))
    )


def cancel_jobs_of_rows(
    dialect: str, rows: FromClause, key_prefix: str, sources: Sequence[str]
) -> Executable:
    """Cancel the waiting jobs of *rows* that left one of *sources*: `left_reason`, `left_at`."""
    is_waiting = still_in(*WAITING)
    return (
        update(jobs)
        .where(
            jobs.c.id.in_(
                locked_jobs_of_rows(dialect, rows, key_prefix, sources, is_waiting)
            ),
            is_waiting,
        )
        .values(
            state=literal_state(JobState.CANCELLED),
            outcome=literal_outcome(JobOutcome.LEFT),
            reason=bindparam("left_reason"),
            finished_at=bindparam("left_at", type_=jobs.c.finished_at.type),
        )
    )


def ask_jobs_of_rows_to_cancel(
    dialect: str, rows: FromClause, key_prefix: str, sources: Sequence[str]
) -> Executable:
    """Tell the running jobs of *rows* that left one of *sources*: `left_reason`."""
    locked = locked_jobs_of_rows(dialect, rows, key_prefix, sources, STILL_PROCESSING)
    return (
        update(jobs)
        .where(jobs.c.id.in_(locked), STILL_PROCESSING)
        .values(
            cancel_requested=tell_owner(jobs.c.owner, dialect),
            reason=bindparam("left_reason"),
        )
    )


def locked_jobs_of_rows(
    dialect: str,
    rows: FromClause,
    key_prefix: str,
    sources: Sequence[str],
    condition: ColumnElement[bool],
) -> Select[Any]:
    """Lock the jobs that hold keys of *rows* that left one of *sources*, by the start of these."""
    keys = select(literal(key_prefix, Text()) + rows.c.record_id).where(
        rows.c.was.in_(sources)
    )
    return (
        select(jobs.c.id)
        .where(jobs.c.dedupe_key.in_(keys), HOLDS_KEY, condition)
        .order_by(*in_job_order(jobs.c.dedupe_key, dialect))
        .with_for_update()
        .correlate(None)
    )


def _columns(
    table: Any, names: Sequence[str], varied: Mapping[str, Any], same: Mapping[str, Any]
) -> list[Any]:
    return [
        (
            varied[name] if name in varied else literal(same[name], table.c[name].type)
        ).label(name)
        for name in names
    ]


def _text(outcome: Enqueued) -> ColumnElement[str]:
    return literal_column(f"'{outcome}'", String())


def _outcome() -> ColumnElement[str]:
    """Return in SQL what became of an enqueued row, as `Enqueued`."""
    return case(
        (jobs.c.coalesced == 0, _text(Enqueued.INSERTED)),
        (jobs.c.state == literal_state(JobState.PROCESSING), _text(Enqueued.RUN_AGAIN)),
        (jobs.c.attempt > 0, _text(Enqueued.RETRIED)),
        else_=_text(Enqueued.COALESCED),
    )

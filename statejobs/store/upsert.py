"""The statement that inserts jobs, or goes on with those that are open already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    Select,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    null,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement

from statejobs.store.arrays import rows_of_arrays
from statejobs.store.conditions import is_in
from statejobs.store.engines.channel import wake_channel
from statejobs.store.lock_order import in_key_order
from statejobs.store.naming import Names, names_beside
from statejobs.store.tables import (
    HOLDS_KEY,
    IS_OPEN,
    jobs,
    literal_state,
)
from statejobs.values.job import ENDED, WAITING, JobState, NewJob

_TAKEN_OVER = (
    "queue",
    "priority",
    "run_at",
    "args",
    "actor",
    "tenant",
    "tags",
    "meta",
    "allowance",
    "tick_at",
)
"""What a job that is open already has of a new request."""
NEW_JOB_COLUMNS = [item.name for item in fields(NewJob)]


Meet = Callable[[Any], Any]
"""Takes an INSERT; returns it with what becomes of a job that has the key of a new one."""


def enqueue_jobs(
    dialect: str,
    *,
    arrays: bool = False,
    constant: Collection[str] = (),
    locks: Sequence[ColumnElement[Any]] = (),
    meet: Meet | None = None,
) -> Any:
    """Insert jobs; on an open job of the same trigger and record, go on with that one.

    Waiting: it takes the new arguments and time, and its attempts start anew. Processing: it will
    run again. Cancelled or discarded: it is revived, its attempts continue and its ceiling rises.
    Other arguments are other work: they bring an idempotency key of their own. *meet* says
    otherwise. Returns id, dedupe_key, coalesced, state and attempt of each. With *locks*, the key
    columns of a table, the records `record_keys` are locked before any job is (see
    `names_of_locks`); that needs *arrays*.
    """
    statement = (
        postgresql.insert(jobs) if dialect == "postgresql" else sqlite.insert(jobs)
    )
    if arrays:
        rows = rows_of_arrays(jobs, NEW_JOB_COLUMNS, constant)
        if locks:
            rows = rows.where(_has_locked(locks, dialect))
        statement = statement.from_select(NEW_JOB_COLUMNS, rows)
    upsert = (
        meet(statement)
        if meet is not None
        else statement.on_conflict_do_update(
            index_elements=[jobs.c.dedupe_key],
            index_where=HOLDS_KEY,
            set_=going_on(statement.excluded),
        )
    )
    returned: list[ColumnElement[object]] = [
        jobs.c.id,
        jobs.c.dedupe_key,
        jobs.c.coalesced,
        jobs.c.state,
        jobs.c.attempt,
    ]
    if dialect == "postgresql":
        # A subquery of its own runs once for the statement, not for each row.
        hint = select(func.pg_notify(wake_channel(), literal_column("''")))
        returned.append(hint.scalar_subquery().label("hint"))
    return upsert.returning(*returned)


def going_on(new: Any) -> Mapping[str, Any]:
    """Return what a job takes over of a *new* one that it serves as well."""
    runs = jobs.c.state == literal_state(JobState.PROCESSING)
    waits = is_in(*WAITING)
    ended = is_in(*ENDED)
    taken_over = {name: new[name] for name in _TAKEN_OVER}
    # What has completed is done: who asks for it again asks for other work.
    is_other = or_(jobs.c.args != new.args, ~IS_OPEN)
    return {
        **taken_over,
        "idempotency_key": case(
            (is_other, new.idempotency_key), else_=jobs.c.idempotency_key
        ),
        "state": case((runs, jobs.c.state), else_=new.state),
        "run_again": runs,
        "attempt": case((waits, 0), else_=jobs.c.attempt),
        "max_attempts": case(
            (ended, jobs.c.attempt + new.max_attempts),
            (runs, jobs.c.max_attempts),
            else_=new.max_attempts,
        ),
        "crashes": case((runs, jobs.c.crashes), else_=0),
        "snoozes": case((runs, jobs.c.snoozes), else_=0),
        "returned": case((runs, jobs.c.returned), else_=0),
        "coalesced": jobs.c.coalesced + 1,
        "cancel_requested": and_(runs, jobs.c.cancel_requested),
        "outcome": null(),
        "finished_at": None,
        "progress": case((runs, jobs.c.progress), else_=None),
        "reason": case((runs, jobs.c.reason), else_=None),
        "unique_until": case((ended, new.unique_until), else_=jobs.c.unique_until),
    }


def _has_locked(
    columns: Sequence[ColumnElement[Any]], dialect: str
) -> ColumnElement[bool]:
    """Return what is true once the records are locked: it counts them before the first row."""
    locked = lock_records(columns, dialect).cte(
        names_of_locks(columns)["locked_records"]
    )
    return select(func.count()).select_from(locked).scalar_subquery() >= 0


def lock_records(columns: Sequence[ColumnElement[Any]], dialect: str) -> Select[Any]:
    """Lock the records `record_keys` (see `names_of_locks`) against all but who refers to them."""
    key = columns[0] if len(columns) == 1 else tuple_(*columns)
    return (
        select(literal_column("1").label("one"))
        .where(
            key.in_(bindparam(names_of_locks(columns)["record_keys"], expanding=True))
        )
        .order_by(*in_key_order(columns, dialect))
        .with_for_update(key_share=True)
    )


def names_of_locks(columns: Sequence[ColumnElement[Any]]) -> Names:
    """Return what an enqueue that locks the records with key *columns* calls things."""
    column: Any = columns[0]
    return names_beside(column.table)

"""Enqueue jobs, cancel those that a move left behind, and write history."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    Executable,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement

from statejobs.store.lock_order import in_key_order
from statejobs.store.naming import Names, names_beside
from statejobs.store.statements.conditions import STILL_PROCESSING, is_in, still_in
from statejobs.store.tables import (
    IS_OPEN,
    jobs,
    literal_state,
    transitions,
)
from statejobs.values.job import ENDED, WAITING, JobState, NewJob

NEW_JOB_COLUMNS = [item.name for item in fields(NewJob)]
HISTORY_COLUMNS = [column.name for column in transitions.columns if column.name != "id"]


def enqueue_jobs(
    dialect: str, *, arrays: bool = False, constant: Collection[str] = (),
    locks: Sequence[ColumnElement[Any]] = (),
) -> Any:  # fmt: skip
    """Insert jobs; on an open job of the same trigger and record, go on with that one.

    Waiting: it takes the new arguments and time, and its attempts start anew. Processing: it will
    run again. Cancelled or discarded: it is revived, its attempts continue and its ceiling rises.
    Other arguments are other work: they bring an idempotency key of their own.
    Returns id, dedupe_key, coalesced, state and attempt of each. With *locks*, the key columns of
    a table, the records `record_keys` are locked before any job is (see `names_of_locks`); that
    needs *arrays*.
    """
    statement = postgresql.insert(jobs) if dialect == "postgresql" else sqlite.insert(jobs)
    if arrays:
        rows = _rows_of_arrays(jobs, NEW_JOB_COLUMNS, constant)
        if locks:
            rows = rows.where(_has_locked(locks, dialect))
        statement = statement.from_select(NEW_JOB_COLUMNS, rows)
    new = statement.excluded
    runs = jobs.c.state == literal_state(JobState.PROCESSING)
    waits = is_in(*WAITING)
    ended = is_in(*ENDED)
    taken_over = {
        name: new[name]
        for name in ("queue", "priority", "run_at", "args", "actor", "tenant", "tags")
    }
    upsert = statement.on_conflict_do_update(
        index_elements=[jobs.c.dedupe_key],
        index_where=IS_OPEN,
        set_={
            **taken_over,
            "idempotency_key": case(
                (jobs.c.args != new.args, new.idempotency_key), else_=jobs.c.idempotency_key
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
            "returned": case((runs, jobs.c.returned), else_=0),
            "coalesced": jobs.c.coalesced + 1,
            "cancel_requested": and_(runs, jobs.c.cancel_requested),
            "finished_at": None,
            "progress": case((runs, jobs.c.progress), else_=None),
            "reason": case((runs, jobs.c.reason), else_=None),
        },
    )
    returned: list[ColumnElement[object]] = [
        jobs.c.id, jobs.c.dedupe_key, jobs.c.coalesced, jobs.c.state, jobs.c.attempt,
    ]  # fmt: skip
    if dialect == "postgresql":
        # A subquery of its own runs once for the statement, not for each row.
        hint = select(func.pg_notify(wake_channel(), literal_column("''")))
        returned.append(hint.scalar_subquery().label("hint"))
    return upsert.returning(*returned)


def _has_locked(columns: Sequence[ColumnElement[Any]], dialect: str) -> ColumnElement[bool]:
    """Return what is true once the records are locked: it counts them before the first row."""
    names = names_of_locks(columns)
    key = columns[0] if len(columns) == 1 else tuple_(*columns)
    locked = (
        select(literal_column("1").label("one"))
        .where(key.in_(bindparam(names["record_keys"], expanding=True)))
        .order_by(*in_key_order(columns, dialect))
        .with_for_update(key_share=True)
        .cte(names["locked_records"])
    )
    return select(func.count()).select_from(locked).scalar_subquery() >= 0


def names_of_locks(columns: Sequence[ColumnElement[Any]]) -> Names:
    """Return what an enqueue that locks the records with key *columns* calls things."""
    column: Any = columns[0]
    return names_beside(column.table)


def wake_channel() -> ColumnElement[str]:
    """Return the channel of this installation: one for each schema, of 26 characters at most.

    A hash, since a schema's name may be as long as a channel's, and hold anything.
    """
    schema = cast(func.current_schema(), Text)
    digest = func.to_hex(func.hashtextextended(schema, literal_column("0")))
    return func.concat(literal_column("'statejobs_'"), digest)


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


def insert_transitions(*, arrays: bool = False, constant: Collection[str] = ()) -> Any:
    """Write rows of history."""
    if not arrays:
        values = {n: bindparam(n, type_=transitions.c[n].type) for n in HISTORY_COLUMNS}
        return insert(transitions).values(values).inline()
    rows = _rows_of_arrays(transitions, HISTORY_COLUMNS, constant)
    return insert(transitions).from_select(HISTORY_COLUMNS, rows)


def _rows_of_arrays(table: Table, columns: Sequence[str], constant: Collection[str]) -> Select[Any]:
    """Return rows made of one array for each column: one short statement however many rows.

    A column that is *constant* comes as one value.
    """
    return select(
        *(
            bindparam(name, type_=table.c[name].type)
            if name in constant
            else func.unnest(bindparam(name, type_=postgresql.ARRAY(table.c[name].type)))
            for name in columns
        )
    )

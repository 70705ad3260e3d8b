"""Enqueue jobs, cancel those that a move left behind, and write history."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    Executable,
    Select,
    Table,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement

from statejobs.domain.job import ENDED, WAITING, JobState, NewJob
from statejobs.store.statements.conditions import STILL_PROCESSING, is_in, still_in
from statejobs.store.tables import (
    IS_OPEN,
    jobs,
    literal_state,
    transitions,
)

NEW_JOB_COLUMNS = [item.name for item in fields(NewJob)]
HISTORY_COLUMNS = [column.name for column in transitions.columns if column.name != "id"]


def enqueue_jobs(dialect: str, *, arrays: bool = False, constant: Collection[str] = ()) -> Any:
    """Insert jobs; on an open job of the same trigger and record, go on with that one.

    Waiting: it takes the new arguments and time, and its attempts start anew. Processing: it will
    run again. Cancelled or discarded: it is revived, its attempts continue and its ceiling rises.
    Returns id, dedupe_key, coalesced, state and attempt of each.
    """
    statement = postgresql.insert(jobs) if dialect == "postgresql" else sqlite.insert(jobs)
    if arrays:
        rows = _rows_of_arrays(jobs, NEW_JOB_COLUMNS, constant)
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


def wake_channel() -> ColumnElement[str]:
    """Return the channel of this installation: one for each schema."""
    return func.concat(literal_column("'statejobs_'"), func.current_schema())


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

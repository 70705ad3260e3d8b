"""The statement that counts what a move of many would do, and what keeps the others back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ColumnExpressionArgument,
    FromClause,
    Select,
    String,
    Text,
    case,
    false,
    func,
    literal,
    not_,
    select,
    true,
)

from statejobs.store.bulk_move import MatchingMove
from statejobs.store.conditions import is_in
from statejobs.store.tables import IS_OPEN, jobs
from statejobs.values.job import WAITING, Enqueued, JobState


def preview(
    move: MatchingMove,
    refusals: Sequence[ColumnExpressionArgument[bool]],
    prefixes: Sequence[Sequence[str]],
) -> Select[Any]:
    """Count the records that *move* would move, and those that each of *refusals* keeps back.

    Args:
        move: Its criteria hold the conditions of *refusals* as well.
        refusals: What is asked of each record, guard by guard; NULL keeps it back, too.
        prefixes: What stands before a record's id in the keys of each trigger's jobs; today's is
            the first.

    Returns:
        One row: `moved`; `refused_N`; and `N_inserted`, … of the jobs of each trigger.
    """
    moving = _moving(move, prefixes)
    counts: list[ColumnElement[Any]] = [func.count().label("moved")]
    for n in range(len(prefixes)):
        outcome = moving.c[f"job_{n}"]
        counts += [
            func.count().filter(outcome == one.value).label(f"{n}_{one}")
            for one in Enqueued
        ]
    moved = select(*counts).select_from(moving).subquery(move.names["counted"])
    if not refusals:
        return select(moved)
    refused = _refused(move, refusals).subquery(move.names["refused"])
    return select(moved, refused).join_from(moved, refused, true())


def as_condition(*, says: bool) -> ColumnElement[bool]:
    """Return in SQL what was decided without a record."""
    return true() if says else false()


def _moving(move: MatchingMove, prefixes: Sequence[Sequence[str]]) -> FromClause:
    """Return the records that would move, with what becomes of the job of each trigger."""
    record_id = move.record_id.label("record_id")
    picked = _in_source(move, record_id).where(*move.criteria).limit(move.limit)
    rows = picked.subquery(move.names["picked"])
    found = (
        _outcome(rows.c.record_id, own).label(f"job_{n}")
        for n, own in enumerate(prefixes)
    )
    # with an OFFSET a job is looked up once for a record, and not again for each count
    return select(rows.c.record_id, *found).offset(0).subquery(move.names["moving"])


def _refused(
    move: MatchingMove, refusals: Sequence[ColumnExpressionArgument[bool]]
) -> Select[Any]:
    counts = [_count_refused(n, condition) for n, condition in enumerate(refusals)]
    others = move.criteria[: len(move.criteria) - len(refusals)]
    return _in_source(move, *counts).where(*others)


def _count_refused(number: int, condition: Any) -> ColumnElement[Any]:
    is_refused = not_(func.coalesce(condition, false()))
    return func.count().filter(is_refused).label(f"refused_{number}")


def _in_source(move: MatchingMove, *columns: ColumnElement[Any]) -> Select[Any]:
    statement = select(*columns).select_from(move.whole)
    return statement.where(move.state.in_(move.sources))


def _outcome(
    record_id: ColumnElement[str], prefixes: Sequence[str]
) -> ColumnElement[str]:
    """Return what would become of the job of a record, as `Enqueued`."""
    becomes = case(
        (is_in(JobState.PROCESSING), Enqueued.RUN_AGAIN.value),
        (is_in(*WAITING), Enqueued.COALESCED.value),
        (jobs.c.attempt > 0, Enqueued.RETRIED.value),
        else_=Enqueued.COALESCED.value,
    )
    found = [
        select(becomes)
        .where(jobs.c.dedupe_key == literal(prefix, Text()) + record_id, IS_OPEN)
        .scalar_subquery()
        for prefix in prefixes
    ]
    return func.coalesce(*found, literal(Enqueued.INSERTED.value, String()))


def read_preview(
    row: Mapping[Any, Any], refusals: Sequence[str], keys: Sequence[str]
) -> tuple[int, dict[str, int], dict[str, dict[str, int]]]:
    """Return what a row of `preview` counts: moved, refused by name, and jobs by key."""
    refused = {name: row[f"refused_{n}"] for n, name in enumerate(refusals)}
    enqueued = {
        key: {one.value: count for one in Enqueued if (count := row[f"{n}_{one}"]) > 0}
        for n, key in enumerate(keys)
    }
    return row["moved"], refused, enqueued

"""The statement that counts what a move of many would do, and what keeps the others back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ColumnExpressionArgument,
    FromClause,
    Select,
    String,
    Text,
    and_,
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
from statejobs.store.tables import HOLDS_KEY, IS_OPEN, jobs
from statejobs.values.clock import LAST
from statejobs.values.job import GAVE_UP, WAITING, Enqueued, JobState
from statejobs.values.unique import Unique, is_duplicate


@dataclass(frozen=True, slots=True)
class AskedJobs:
    """Jobs of a trigger that a move enqueues."""

    prefixes: Sequence[str]
    """What stands before a record's id in their keys; today's is the first."""
    unique: Unique | None


def preview(
    move: MatchingMove,
    refusals: Sequence[ColumnExpressionArgument[bool]],
    asked: Sequence[AskedJobs],
) -> Select[Any]:
    """Count the records that *move* would move, and those that each of *refusals* keeps back.

    Args:
        move: Its criteria hold the conditions of *refusals* as well.
        refusals: What is asked of each record, guard by guard; NULL keeps it back, too.
        asked: The jobs of each trigger.

    Returns:
        One row: `moved`; `refused_N`; and `N_inserted`, … of the jobs of each trigger.
    """
    moving = _moving(move, asked)
    counts: list[ColumnElement[Any]] = [func.count().label("moved")]
    for n in range(len(asked)):
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


def _moving(move: MatchingMove, asked: Sequence[AskedJobs]) -> FromClause:
    """Return the records that would move, with what becomes of the job of each trigger."""
    record_id = move.record_id.label("record_id")
    picked = _in_source(move, record_id).where(*move.criteria).limit(move.limit)
    rows = picked.subquery(move.names["picked"])
    found = (
        _outcome(rows.c.record_id, own, move.at).label(f"job_{n}")
        for n, own in enumerate(asked)
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
    record_id: ColumnElement[str], asked: AskedJobs, at: datetime
) -> ColumnElement[str]:
    """Return what would become of the job of a record, as `Enqueued`."""
    unique = asked.unique
    becomes = _goes_on() if unique is None else _meets(unique, at)
    found = [
        select(becomes)
        .where(
            jobs.c.dedupe_key == literal(prefix, Text()) + record_id,
            IS_OPEN if unique is None else HOLDS_KEY,
        )
        .scalar_subquery()
        for prefix in asked.prefixes
    ]
    return func.coalesce(*found, literal(Enqueued.INSERTED.value, String()))


def _goes_on() -> ColumnElement[str]:
    """Return what becomes of a request while a job has its key, which is not `Unique`."""
    return case(
        (is_in(JobState.PROCESSING), Enqueued.RUN_AGAIN.value),
        (is_in(*WAITING), Enqueued.COALESCED.value),
        (jobs.c.attempt > 0, Enqueued.RETRIED.value),
        else_=Enqueued.COALESCED.value,
    )


def _meets(unique: Unique, at: datetime) -> ColumnElement[str]:
    """Return what becomes of a request while a job has its key, which is *unique* for a period."""
    is_over = and_(is_in(JobState.COMPLETED), jobs.c.unique_until <= at)
    kept = [
        state for state in JobState if is_duplicate(unique, state, until=LAST, now=at)
    ]
    cases: list[tuple[ColumnElement[bool], Any]] = [
        (is_over, Enqueued.INSERTED.value),
        (is_in(*kept), Enqueued.DUPLICATE.value),
    ]
    if unique.on_conflict == "run_again":
        return case(*cases, else_=_goes_on())
    cases.append((is_in(*GAVE_UP), Enqueued.RETRIED.value))
    return case(*cases, else_=Enqueued.REPLACED.value)


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

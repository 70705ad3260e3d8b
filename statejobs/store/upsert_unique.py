"""What becomes of a job that has the key of a new one, where jobs are `Unique`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, and_, case, null, or_

from statejobs.store.conditions import is_in
from statejobs.store.tables import HOLDS_KEY, jobs
from statejobs.store.upsert import Meet, going_on
from statejobs.values.job import GAVE_UP, LIVE, JobState
from statejobs.values.unique import Unique

Part = tuple[ColumnElement[bool], Mapping[str, Any]]
"""A condition on the job that has the key, and what then changes of it."""


@lru_cache(maxsize=256)
def meet_unique(unique: Unique, *, of_records: bool) -> Meet:
    """Return what an INSERT does to a job that has the key of a new one.

    One that has ended loses its key, so that the same INSERT may be made once more; what it returns
    has ended, or runs. That of a record which gave up goes on. What else changes is as *unique*
    says. A job that stays as it was is not returned; PostgreSQL locks it all the same, so that one
    statement takes the locks of all keys, in their order.
    """

    def meet(statement: Any) -> Any:
        new = statement.excluded
        parts = [
            _losing_key(new, unique, of_records=of_records),
            *_going_on(new, unique, of_records=of_records),
            *_replacing(new, unique),
        ]
        return statement.on_conflict_do_update(
            index_elements=[jobs.c.dedupe_key],
            index_where=HOLDS_KEY,
            set_=_joined(parts),
            where=or_(*(condition for condition, _ in parts)),
        )

    return meet


def _losing_key(new: Any, unique: Unique, *, of_records: bool) -> Part:
    has_completed = is_in(JobState.COMPLETED)
    is_over = [has_completed]
    if unique.period is not None:
        is_over.append(jobs.c.unique_until <= new.enqueued_at)
    loses = [and_(*is_over)]
    if not of_records:
        loses.append(is_in(*GAVE_UP))
    if unique.while_ == "waiting":
        loses.append(is_in(JobState.PROCESSING))
    kept = case((has_completed, jobs.c.dedupe_key), else_=null())
    return or_(*loses), {"unique_until": null(), "dedupe_key": kept}


def _going_on(new: Any, unique: Unique, *, of_records: bool) -> list[Part]:
    states: list[JobState] = []
    if unique.on_conflict == "run_again":
        states += LIVE
    if of_records:
        states += GAVE_UP
    return [(is_in(*states), going_on(new))] if states else []


def _replacing(new: Any, unique: Unique) -> list[Part]:
    """Return what a waiting job takes over; its attempts, and its period, stay as they are."""
    parts: list[Part] = []
    for state, names in unique.replaced:
        changes: dict[str, Any] = {name: new[name] for name in names}
        changes["coalesced"] = jobs.c.coalesced + 1
        changes["tick_at"] = new.tick_at
        if "args" in names:  # other arguments are other work
            changes["idempotency_key"] = case(
                (jobs.c.args != new.args, new.idempotency_key),
                else_=jobs.c.idempotency_key,
            )
        if "run_at" in names:
            changes["state"] = new.state
        parts.append((is_in(state), changes))
    return parts


def _joined(parts: Sequence[Part]) -> dict[str, Any]:
    """Return for each column what the first part says whose condition holds."""
    names = dict.fromkeys(name for _, changes in parts for name in changes)
    return {
        name: case(
            *((when, changes[name]) for when, changes in parts if name in changes),
            else_=jobs.c[name],
        )
        for name in names
    }

"""What a tick would do now."""

from __future__ import annotations

from dataclasses import dataclass

from statejobs.people.desk import Desk
from statejobs.record.identity import encode_identity
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.store.ago import ago_at
from statejobs.store.dry_ticks import count_picked, index_in, plan_of_picked
from statejobs.store.pages import Page, read_page
from statejobs.work.schedules.picking import picking_of

SAMPLE = 3
"""How many of the records that match are named."""


@dataclass(frozen=True, kw_only=True)
class ScheduleDryRun:
    """What a tick would do now."""

    enqueued: int
    """Jobs that it would make."""
    reason: str | None = None
    """Why it would make none."""
    records: tuple[str, ...] = ()
    """Of a trigger: the first records that it would pick."""
    index: str | None = None
    """The index by which the database finds them; None where it reads the whole table."""
    plan: tuple[str, ...] = ()
    """How the database looks for them, in its words."""


def what_it_picks(
    desk: Desk, model: ResourceModel, bound: BoundTrigger
) -> ScheduleDryRun:
    """Return what a tick of the trigger *bound* would do now."""
    now = desk.now()
    schedule = bound.schedule
    assert schedule is not None  # noqa: S101 - it ticks
    page = Page(after=None, size=SAMPLE, now=now)
    with desk.store.transaction() as connection, ago_at(now):
        picking = picking_of(model, bound, connection.dialect)
        number = count_picked(connection, picking, page)
        sample = read_page(connection, picking, page)
        plan = plan_of_picked(connection, picking, page)
    number = number if schedule.limit is None else min(number, schedule.limit)
    return ScheduleDryRun(
        enqueued=number,
        reason=None if number else "no record matches",
        records=tuple(f"{model.name} {encode_identity(key)}" for key in sample),
        index=index_in(plan, model.table.name),
        plan=plan,
    )

"""The schedule of a trigger as it was written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from statejobs.values.scheduled_trigger_options import ScheduledTriggerOptions
from statejobs.values.timetable import Timetable


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScheduleSpec:
    """When a trigger ticks, and of which records a tick makes jobs."""

    timetable: Timetable
    where: Callable[..., Any]
    """Returns the condition in SQL; takes nothing, or the class."""
    spread: timedelta | None
    limit: int | None
    order_by: Callable[..., Any] | None
    """Returns by what they are sorted; takes nothing, or the class."""
    batch: int
    is_hybrid: bool
    """Whether `run_trigger` may name it as well."""

    @classmethod
    def of(cls, options: ScheduledTriggerOptions, *, is_hybrid: bool) -> ScheduleSpec:
        """Return what *options* say of ticks."""
        return cls(
            timetable=options.timetable,
            where=options.where,
            spread=options.spread,
            limit=options.limit,
            order_by=options.order_by,
            batch=options.batch,
            is_hybrid=is_hybrid,
        )

"""The options of triggers that tick, beside those of every trigger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Annotated, Any, get_args

from statejobs.values import option_checks, schedule_checks
from statejobs.values.cron import Cron
from statejobs.values.option import Option
from statejobs.values.options import TriggerOptions
from statejobs.values.timetable import CatchUp, Timetable


@dataclass(frozen=True, slots=True)
class ScheduledTriggerOptions(TriggerOptions):
    """When a trigger ticks, and of which records its jobs are."""

    _: KW_ONLY
    cron: Annotated[
        str,
        Option(
            'when it ticks: five fields, such as `"*/10 * * * *"`, or `"@hourly"` '
            'to `"@yearly"`',
            schedule_checks.cron,
        ),
    ]
    where: Annotated[
        Callable[[], Any] | Callable[[Any], Any],
        Option(
            "which records in a source of the action a tick picks: a function without "
            "arguments, or of the class, that returns a condition of SQLAlchemy, in which "
            "`ago(hours=24)` may be; or `everything`",
            schedule_checks.condition,
        ),
    ]
    timezone: Annotated[
        str,
        Option(
            'zone whose clock `cron` goes by, by its IANA name, such as `"Europe/Prague"`',
            option_checks.timezone,
        ),
    ] = "UTC"
    catch_up: Annotated[
        CatchUp,
        Option(
            'which ticks follow that nobody was there for: `"none"`, the `"last"`, or '
            '`"all"`, of which there are at most 100',
            option_checks.one_of(*get_args(CatchUp)),
        ),
    ] = "last"
    spread: Annotated[
        timedelta | None,
        Option(
            "time over which the jobs of one tick become due, in 20 steps",
            schedule_checks.spread,
        ),
    ] = None
    limit: Annotated[
        int | None,
        Option("most records that one tick picks", schedule_checks.limit),
    ] = None
    order_by: Annotated[
        Callable[[], Any] | Callable[[Any], Any] | None,
        Option(
            "which records come first, if there is a `limit` of 10,000 at most: a function "
            "as `where`, that returns a column or a list of them",
            schedule_checks.order,
        ),
    ] = None
    batch: Annotated[
        int,
        Option("records in one transaction", schedule_checks.batch),
    ] = 10_000

    def __post_init__(self) -> None:
        """Refuse values that no one can mean, and those that contradict each other."""
        TriggerOptions.__post_init__(self)
        where = f"{self.kind} {self.key!r}"
        schedule_checks.refuse_pairs(
            where,
            limit=self.limit,
            is_ordered=self.order_by is not None,
            chunk=self.chunk,
        )
        _ = self.timetable  # reads the expression

    @property
    def timetable(self) -> Timetable:
        """When it ticks."""
        where = f"{self.kind} {self.key!r}: cron"
        cron = Cron.parse(self.cron, self.timezone, where=where)
        return Timetable(cron=cron, catch_up=self.catch_up)

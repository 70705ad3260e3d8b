"""The options of scheduled actions: those of tasks, and when they tick."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, ClassVar

from statejobs.errors import DefinitionError
from statejobs.values import option_checks as checked
from statejobs.values.cron import Cron
from statejobs.values.option import Option, check_options
from statejobs.values.options import TaskOptions
from statejobs.values.timetable import CatchUp, Overlap, Timetable


@dataclass(frozen=True, slots=True)
class ScheduledOptions(TaskOptions):
    """How the jobs of a scheduled action are stored and run, and when it ticks."""

    kind: ClassVar[str] = "scheduled action"

    _: KW_ONLY
    cron: Annotated[
        str,
        Option(
            'when it runs: minute, hour, day of the month, month, weekday, as `"0 */6 * * *"`; '
            "or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`",
            checked.cron,
        ),
    ]
    timezone: Annotated[
        str,
        Option("by which clock: an IANA name", checked.timezone),
    ] = "UTC"
    catch_up: Annotated[
        CatchUp,
        Option(
            "which ticks it makes up for that were missed, since nobody ran for more than a "
            'minute: `"none"`, `"last"`, or `"all"`, at most 100',
            checked.one_of("none", "last", "all"),
        ),
    ] = "last"
    overlap: Annotated[
        Overlap,
        Option(
            "what becomes of a tick while the job of the last one lives, retries included: "
            '`"skip"`, or `"queue"`, which gives each its own',
            checked.one_of("skip", "queue"),
        ),
    ] = "skip"

    def __post_init__(self) -> None:
        """Refuse values that no one can mean, and pairs that contradict each other."""
        where = f"{self.kind} {self.key!r}"
        check_options(self, where)
        if self.unique is not None and self.overlap == "queue":
            raise DefinitionError(
                where,
                "overlap='queue', and unique= is given",
                why="each tick would have a job of its own, and one at a time",
                fix="leave out one of them",
            )

    @property
    def timetable(self) -> Timetable:
        """What `cron`, `timezone` and the policies stand for."""
        where = f"{self.kind} {self.key!r}: cron"
        return Timetable(
            cron=Cron.parse(self.cron, self.timezone, where=where),
            catch_up=self.catch_up,
            overlap=self.overlap,
        )

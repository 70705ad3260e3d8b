"""The options of tasks and of triggers, each declared once.

A new one is a field here. `make fix` then writes it into the signatures and docstrings of those who
take it, and into the tables of the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Annotated, Any, ClassVar, cast

from statejobs.values import option_checks as checked
from statejobs.values.backoff import Backoff
from statejobs.values.job import Job
from statejobs.values.levels import LogLevel
from statejobs.values.loading import LoaderOption
from statejobs.values.option import Option, check_options
from statejobs.values.unique import Unique, of_task, of_trigger

RESOURCE_PLACE = "{resource}"
"""What in the key of a trigger is replaced by the name of a resource."""


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How the jobs of one key are stored and run: all that a task needs."""

    kind: ClassVar[str] = "task"

    key: Annotated[
        str,
        Option(
            'stable name stored with its jobs, for instance `"report.daily"`; '
            "it survives renames of code",
            checked.task_key,
        ),
    ]
    _: KW_ONLY
    aliases: Annotated[
        Sequence[str],
        Option("former keys, whose stored jobs still run", checked.keys()),
    ] = ()
    queue: Annotated[
        str,
        Option("queue of its jobs", checked.queue, by_domain=True),
    ] = "default"
    priority: Annotated[
        int,
        Option(
            "0 (first) to 9 (last) inside the queue",
            checked.whole(
                0,
                9,
                why="priorities order the jobs inside a queue, from 0 (first) to 9 (last)",
                fix="give a number from 0 to 9",
            ),
            by_domain=True,
        ),
    ] = 0
    max_attempts: Annotated[
        int,
        Option("attempts before a job is discarded", checked.tried, by_domain=True),
    ] = 5
    max_crashes: Annotated[
        int,
        Option(
            "attempts that may end with their worker before it is discarded",
            checked.tried,
        ),
    ] = 3
    max_snoozes: Annotated[
        int,
        Option(
            "how often a job may ask to run later, by `Snooze`, before it is discarded",
            checked.whole(
                1,
                why="it is how often a job may ask to run later",
                fix="give max_snoozes=1 or more",
            ),
        ),
    ] = 1000
    backoff: Annotated[
        Backoff
        | timedelta
        | Sequence[timedelta]
        | Callable[[int, BaseException | None], timedelta]
        | None,
        Option(
            "wait before the next attempt: a `timedelta`, a list of them, "
            "a function `(attempt, error) -> timedelta`, or a `Backoff`",
            checked.backoff,
            shown="Exponential()",
            by_domain=True,
        ),
    ] = None
    timeout: Annotated[
        timedelta | Callable[[Job], timedelta | None] | None,
        Option(
            "how long one attempt may take: a `timedelta`, or a function of the `Job`",
            checked.timeout,
            by_domain=True,
        ),
    ] = None
    paused: Annotated[
        bool,
        Option(
            "whether its jobs are enqueued and wait, until code without it is deployed",
            checked.flag(why="its jobs wait, or they do not"),
        ),
    ] = False
    tags: Annotated[
        Sequence[str],
        Option(
            "words stored with its jobs, for people to filter by",
            checked.tags,
            by_domain=True,
        ),
    ] = ()
    default_actor: Annotated[
        str | None,
        Option(
            'actor of jobs that nobody asked for, for instance `"system:billing"`',
            checked.actor,
        ),
    ] = None
    log_level: Annotated[
        LogLevel | int,
        Option(
            'level at which a failed attempt is logged, `"debug"` to `"critical"`',
            checked.log_level,
        ),
    ] = "warning"
    log_final_level: Annotated[
        LogLevel | int,
        Option(
            "level at which the attempt is logged with which a job is discarded",
            checked.log_level,
        ),
    ] = "error"
    meta: Annotated[
        Mapping[str, Any] | None,
        Option(
            "what programs note on its jobs, as JSON: a mapping, at most 8 kB",
            checked.meta(),
        ),
    ] = None
    upcast: Annotated[
        Callable[[dict[str, Any]], Mapping[str, Any]] | None,
        Option(
            "called with the stored arguments of an old job that no longer fit, "
            "as JSON values; returns those of today",
            checked.function(
                why="it is called with the stored arguments, and returns those of today",
                fix="upcast=lambda args: {**args, 'copies': 1}",
            ),
        ),
    ] = None
    unique: Annotated[
        Unique | None,
        Option(
            "at most one job for what requests share: a `Unique`",
            of_task,
        ),
    ] = None

    def __post_init__(self) -> None:
        """Refuse values that no one can mean."""
        check_options(self, f"{self.kind} {self.key!r}")

    @property
    def wait(self) -> Backoff:
        """What `backoff` stands for."""
        return cast("Backoff", self.backoff)  # as its check returned it


@dataclass(frozen=True, slots=True)
class TriggerOptions(TaskOptions):
    """How the jobs of a trigger are stored and run."""

    kind: ClassVar[str] = "trigger"

    key: Annotated[
        str,
        Option(
            'stable name stored with its jobs, for instance `"order.charge"`; '
            'it survives renames of code. In a mixin, `"{resource}.charge"` gives '
            "each resource its own",
            checked.key(place=RESOURCE_PLACE),
        ),
    ]
    _: KW_ONLY
    aliases: Annotated[
        Sequence[str],
        Option(
            "former keys, whose stored jobs still run; "
            "asking again goes on with such a job",
            checked.keys(place=RESOURCE_PLACE),
        ),
    ] = ()
    meta: Annotated[
        Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None,
        Option(
            "what programs note on its jobs, as JSON: a mapping of at most 8 kB, "
            "or a function of the record",
            checked.meta(or_function=True),
        ),
    ] = None  # type: ignore[assignment] # a task has no record to ask
    unique: Annotated[
        Unique | None,
        Option(
            "at most one job for each record and period: a `Unique`",
            of_trigger,
        ),
    ] = None
    args: Annotated[
        Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None,
        Option(
            "arguments that `run_trigger` passes to the action: a mapping, "
            "or a function of the record",
            checked.function(
                why="run_trigger passes these arguments to the action",
                fix="give a dict, or a function of the record: "
                "args=lambda order: {'n': order.n}",
                or_mapping=True,
            ),
        ),
    ] = None
    load: Annotated[
        LoaderOption
        | Sequence[LoaderOption]
        | Callable[[Any], LoaderOption | Sequence[LoaderOption]]
        | None,
        Option(
            "loader options, such as `selectinload(Order.lines)`, with which records are "
            "loaded anew when an attempt begins; or a function of the class that returns them",
            checked.load,
        ),
    ] = None
    chunk: Annotated[
        int | None,
        Option(
            "most records in one call of the action, which then is a static method "
            "that takes a list of records and a `ChunkContext`",
            checked.whole(
                1,
                why="it is the most records that one call of the action takes",
                fix="give a number from 1 on, or leave it out for an action that "
                "takes one record",
                or_none=True,
            ),
        ),
    ] = None

    @property
    def of_record(self) -> str | None:
        """Name of an option that is a function of the record; None where all are fixed."""
        names = ("args", "meta")
        return next((name for name in names if callable(getattr(self, name))), None)

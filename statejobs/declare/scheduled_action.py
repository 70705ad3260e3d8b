"""`@scheduled_action`: a task that runs by itself, at each tick of a cron expression."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from statejobs.declare.task import TaskDecorator
from statejobs.values.backoff import Backoff
from statejobs.values.job import Job
from statejobs.values.known_options import explain_options
from statejobs.values.levels import LogLevel
from statejobs.values.option import chosen, given
from statejobs.values.scheduled_options import ScheduledOptions
from statejobs.values.timetable import CatchUp, Overlap
from statejobs.values.unique import Unique


@explain_options()
def scheduled_action(
    key: str,
    *,
    aliases: Sequence[str] = (),
    queue: str | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    max_crashes: int = 3,
    max_snoozes: int = 1000,
    backoff: Backoff
    | timedelta
    | Sequence[timedelta]
    | Callable[[int, BaseException | None], timedelta]
    | None = None,
    timeout: timedelta | Callable[[Job], timedelta | None] | None = None,
    paused: bool = False,
    tags: Sequence[str] | None = None,
    default_actor: str | None = None,
    log_level: LogLevel | int = "warning",
    log_final_level: LogLevel | int = "error",
    meta: Mapping[str, Any] | None = None,
    upcast: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
    unique: Unique | None = None,
    cron: str,
    timezone: str = "UTC",
    catch_up: CatchUp = "last",
    overlap: Overlap = "skip",
) -> TaskDecorator:
    """Declare that the decorated function runs as a job at each tick of *cron*.

    It is a task: it can be enqueued by hand, too. `ctx.tick` is the instant that it runs for. List
    it among the tasks of a `Domain`; a static method of a resource comes with its class.

    Args:
        key: Stable name stored with its jobs, for instance `"report.daily"`; it survives renames of
            code.
        aliases: Former keys, whose stored jobs still run.
        queue: Queue of its jobs. Default: its domain's, or `"default"`.
        priority: 0 (first) to 9 (last) inside the queue. Default: its domain's, or `0`.
        max_attempts: Attempts before a job is discarded. Default: its domain's, or `5`.
        max_crashes: Attempts that may end with their worker before it is discarded.
        max_snoozes: How often a job may ask to run later, by `Snooze`, before it is discarded.
        backoff: Wait before the next attempt: a `timedelta`, a list of them, a function `(attempt,
            error) -> timedelta`, or a `Backoff`. Default: its domain's, or `Exponential()`.
        timeout: How long one attempt may take: a `timedelta`, or a function of the `Job`. Default:
            its domain's, or `None`.
        paused: Whether its jobs are enqueued and wait, until code without it is deployed.
        tags: Words stored with its jobs, for people to filter by. Default: its domain's, or `()`.
        default_actor: Actor of jobs that nobody asked for, for instance `"system:billing"`.
        log_level: Level at which a failed attempt is logged, `"debug"` to `"critical"`.
        log_final_level: Level at which the attempt is logged with which a job is discarded.
        meta: What programs note on its jobs, as JSON: a mapping, at most 8 kB.
        upcast: Called with the stored arguments of an old job that no longer fit, as JSON values;
            returns those of today.
        unique: At most one job for what requests share: a `Unique`.
        cron: When it runs: minute, hour, day of the month, month, weekday, as `"0 */6 * * *"`; or
            `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
        timezone: By which clock: an IANA name.
        catch_up: Which ticks it makes up for that were missed, since nobody ran for more than a
            minute: `"none"`, `"last"`, or `"all"`, at most 100.
        overlap: What becomes of a tick while the job of the last one lives, retries included:
            `"skip"`, or `"queue"`, which gives each its own.

    Raises:
        DefinitionError: A value that no job could have, a function that cannot be one, or one with
            a parameter that no tick could give.
        WrongValueError: The expression is none, it never runs, or there is no such time zone.
    """
    names = locals()
    options = given(ScheduledOptions, names)
    return TaskDecorator(options, chosen(ScheduledOptions, names), options.timetable)

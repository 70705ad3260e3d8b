"""What `Trigger.scheduled` and `Trigger.hybrid` take by name; written from the options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Required, TypedDict

from statejobs.values.backoff import Backoff
from statejobs.values.job import Job
from statejobs.values.levels import LogLevel
from statejobs.values.loading import LoaderOption
from statejobs.values.timetable import CatchUp
from statejobs.values.unique import Unique


class ScheduleWords(TypedDict, total=False):
    """The options of triggers that tick, those of every trigger among them."""

    aliases: Sequence[str]
    queue: str | None
    priority: int | None
    max_attempts: int | None
    max_crashes: int
    max_snoozes: int
    backoff: (
        Backoff
        | timedelta
        | Sequence[timedelta]
        | Callable[[int, BaseException | None], timedelta]
        | None
    )
    timeout: timedelta | Callable[[Job], timedelta | None] | None
    paused: bool
    tags: Sequence[str] | None
    default_actor: str | None
    log_level: LogLevel | int
    log_final_level: LogLevel | int
    meta: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None
    upcast: Callable[[dict[str, Any]], Mapping[str, Any]] | None
    unique: Unique | None
    args: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None
    load: (
        LoaderOption
        | Sequence[LoaderOption]
        | Callable[[Any], LoaderOption | Sequence[LoaderOption]]
        | None
    )
    chunk: int | None
    cron: Required[str]
    where: Required[Callable[[], Any] | Callable[[Any], Any]]
    timezone: str
    catch_up: CatchUp
    spread: timedelta | None
    limit: int | None
    order_by: Callable[[], Any] | Callable[[Any], Any] | None
    batch: int

"""The options of triggers, of tasks and of one job, as frozen values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from statejobs.errors import DefinitionError, WrongValueError
from statejobs.values.backoff import LONGEST, Backoff, Exponential
from statejobs.values.call_checks import check_call
from statejobs.values.clock import FIRST, LAST
from statejobs.values.kinds import check_kind, check_span, check_text, check_whole
from statejobs.values.text import NAME_LIMIT, clean_text
from statejobs.values.whole import is_whole

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
RESOURCE_PLACE = "{resource}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How the jobs of one key are stored and run: all that a task needs."""

    kind: ClassVar[str] = "task"
    place: ClassVar[str | None] = None
    """What in a key is replaced by the name of a resource."""

    key: str
    """Stable stored name; it survives renames of code."""
    aliases: tuple[str, ...] = ()
    """Former keys, whose stored jobs are still run."""
    queue: str = "default"
    priority: int = 0
    """0 (first) to 9 (last) inside a queue."""
    max_attempts: int = 5
    max_crashes: int = 3
    """Attempts that may end with their worker before the job is quarantined."""
    backoff: Backoff = field(default_factory=Exponential)
    timeout: timedelta | None = None
    """How long one attempt may take; None means as long as it likes."""
    tags: tuple[str, ...] = ()
    upcast: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None
    """Makes arguments of today from stored ones that no longer fit."""

    def __post_init__(self) -> None:
        """Refuse values that no one can mean."""
        where = f"{self.kind} {self.key!r}"
        _check_kinds(where, self)
        for name in (self.key, *self.aliases):
            _check_name(
                where,
                "key",
                name.replace(self.place, "resource") if self.place else name,
                longest=200,
            )
        _check_name(where, "queue", self.queue, longest=100)
        tags = tuple(clean_text(tag, NAME_LIMIT) for tag in self.tags)
        object.__setattr__(self, "tags", tags)
        if not is_whole(self.priority) or not 0 <= self.priority <= 9:  # noqa: PLR2004 - the documented range
            raise DefinitionError(
                where,
                f"priority={self.priority!r}",
                why="priorities order the jobs inside a queue, from 0 (first) to 9 (last)",
                fix="give a number from 0 to 9",
            )
        for option in ("max_attempts", "max_crashes"):
            value: int = getattr(self, option)
            if not is_whole(value) or value < 1:
                raise DefinitionError(
                    where,
                    f"{option}={value!r}",
                    why="a job needs at least one attempt",
                    fix=f"give {option}=1 or more",
                )
        if self.upcast is not None:
            check_call(
                where,
                "upcast=",
                self.upcast,
                given=1,
                why="it is called with the stored arguments, and returns those of today",
                fix="upcast=lambda args: {**args, 'copies': 1}",
            )
        if self.timeout is not None and self.timeout <= timedelta():
            raise DefinitionError(
                where,
                f"timeout={self.timeout}",
                why="every attempt would end before it began",
                fix="give a positive timedelta, or leave it out",
            )
        if self.timeout is not None:
            object.__setattr__(self, "timeout", min(self.timeout, LONGEST))


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerOptions(RunOptions):
    """How the jobs of a trigger are stored and run; `{resource}` in a key is replaced."""

    kind: ClassVar[str] = "trigger"
    place: ClassVar[str | None] = RESOURCE_PLACE

    args: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None = None
    """Arguments that `run_trigger` passes to the action: fixed, or made from the record."""
    chunk: int | None = None
    """Most records in one call of the action, which then takes a list; None means one record."""

    def __post_init__(self) -> None:
        """Refuse values that no one can mean."""
        # a slotted dataclass is another class than super() knows
        RunOptions.__post_init__(self)
        if self.args is not None and not isinstance(self.args, Mapping):
            check_call(
                f"{self.kind} {self.key!r}",
                "args=",
                self.args,
                given=1,
                why="run_trigger passes these arguments to the action",
                fix="give a dict, or a function of the record: args=lambda order: {'n': order.n}",
            )
        if self.chunk is not None and (not is_whole(self.chunk) or self.chunk < 1):
            raise DefinitionError(
                f"{self.kind} {self.key!r}",
                f"chunk={self.chunk!r}",
                why="it is the most records that one call of the action takes",
                fix="give a number from 1 on, or leave it out for an action that takes one record",
            )


def _check_kinds(where: str, options: RunOptions) -> None:
    check_text(f"{where}: key", options.key, example="order.charge")
    check_text(f"{where}: queue", options.queue, example="default")
    check_span(f"{where}: timeout", options.timeout, or_none=True)


def _check_name(where: str, what: str, name: str, *, longest: int) -> None:
    if NAME.fullmatch(name) and len(name) <= longest:
        return
    raise DefinitionError(
        where,
        f"{what} {name!r} is not a stable name",
        why="it is stored with every job, and typed by people on the command line",
        fix=f"use at most {longest} letters, digits, '.', '_' and '-', like 'order.charge'",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """When and how urgently one job shall run."""

    run_at: datetime | None = None
    delay: timedelta | None = None
    priority: int | None = None

    def __post_init__(self) -> None:
        """Refuse contradictions."""
        check_span("options(delay=…)", self.delay, or_none=True)
        check_whole("options(priority=…)", self.priority, or_none=True)
        if self.run_at is not None:
            example = "run_at=datetime.now(UTC) + timedelta(hours=1)"
            check_kind("options(run_at=…)", self.run_at, datetime, example=example)
        if self.run_at is not None and self.delay is not None:
            raise WrongValueError("give run_at or delay, not both")
        if self.run_at is not None and self.run_at.tzinfo is None:
            raise WrongValueError(
                f"run_at {self.run_at!r} has no time zone; its instant is unknown"
            )
        if self.delay is not None and self.delay < timedelta():
            raise WrongValueError(f"delay {self.delay} is negative")
        if self.priority is not None and not 0 <= self.priority <= 9:  # noqa: PLR2004 - documented
            raise WrongValueError(
                f"priority {self.priority} is not between 0 (first) and 9 (last)"
            )

    def due(self, now: datetime) -> datetime:
        """Return when the job shall run, as a time that every database can store and return."""
        if self.run_at is not None:
            return max(FIRST, min(self.run_at, LAST))
        return now + min(self.delay or timedelta(), LONGEST)

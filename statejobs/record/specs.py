"""What was written on a resource or as a task, as values: frozen when its line has run.

A descriptor holds one of them, the model of a resource binds them; whoever fires, moves, enqueues
or runs reads these.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

from statejobs.errors import StateJobsError
from statejobs.machine.guard import Guard, Permission
from statejobs.record.actors import Actors
from statejobs.record.change import Change
from statejobs.record.home import Home
from statejobs.record.ledger import value_of
from statejobs.record.schedule_spec import ScheduleSpec
from statejobs.values.arguments import Signature
from statejobs.values.graph import DELETED, STAYS, Promise
from statejobs.values.options import TaskOptions, TriggerOptions
from statejobs.values.outcome import HookKind
from statejobs.values.timetable import Timetable
from statejobs.values.unique_key import UniqueKeys

GuardFunction = Callable[[Any], bool]
"""Takes a record."""
PermissionFunction = Callable[[Any, Any], bool]
"""Takes a record, and who acts; None when nobody was named."""


def label_of(record: Any) -> str:
    """Return how messages call *record*."""
    label: str = type(record).__statejobs__.label(record)
    return label


@dataclass(frozen=True, slots=True, eq=False)
class TriggerSpec:
    """A trigger as it was written; in a mixin one of them has a key for each resource."""

    options: TriggerOptions
    """As they were written; those that hold are in what one resource makes of it."""
    chosen: frozenset[str] = frozenset()
    """Those that were given, of the options for which a domain may have a default."""
    schedule: ScheduleSpec | None = None
    """None: nothing but requests make its jobs."""


@dataclass(frozen=True, slots=True)
class PromiseSpec:
    """A job that is enqueued where a record is led, as it was written."""

    trigger: TriggerSpec
    delay: timedelta = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StateSpec:
    """What `state_column` was told."""

    states: type[enum.Enum]
    initial: enum.Enum
    final: tuple[enum.Enum, ...]
    deprecated: tuple[enum.Enum, ...]
    promises: tuple[PromiseSpec, ...]
    """Of creation."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TransitionSpec:
    """A transition as it was written."""

    name: str
    """Of its method."""
    body: Callable[..., Any]
    source: tuple[enum.Enum, ...]
    """A class resolves what is written as `"*"`."""
    target: enum.Enum
    guards: tuple[GuardFunction, ...]
    promises: tuple[PromiseSpec, ...]
    allow: tuple[PermissionFunction, ...] = ()
    changes: tuple[Change, ...] = ()
    after: timedelta | None = None
    """How long a record is in a source before it fires by itself."""

    @property
    def label(self) -> str:
        """How messages call it: by its class and its name."""
        return short_name(self.body)

    @cached_property
    def permissions(self) -> tuple[Permission, ...]:
        """What it asks of who fires it, each with what it says when it refuses."""
        return tuple(
            Permission.of(function, owner=self.name, label=label_of)
            for function in self.allow
        )

    @cached_property
    def is_async(self) -> bool:
        """Whether the body is an `async def`."""
        return inspect.iscoroutinefunction(self.body)

    @cached_property
    def signature(self) -> Signature:
        """The typed parameters of the body; its annotations are resolved at the first look."""
        return Signature.of(self.body, name=self.label, skip=1, stored=False)

    def __repr__(self) -> str:
        return f"<transition {self.name}: {_listed(self.source)} → {value_of(self.target)}>"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ActionSpec:
    """An action as it was written: what a job of its trigger does."""

    name: str
    """Of its method."""
    body: Callable[..., Any]
    trigger: TriggerSpec
    source: tuple[enum.Enum, ...]
    targets: tuple[enum.Enum, ...]
    """Of several the body returns one; none: it deletes the record, or leaves it where it is."""
    deletes: bool
    during: enum.Enum | None
    failed: enum.Enum | None
    guards: tuple[GuardFunction, ...]
    is_atomic: bool
    is_chunk: bool
    """Whether the body takes a list of records."""
    promises: Mapping[enum.Enum, tuple[PromiseSpec, ...]]
    """Of each target that has some."""
    changes: tuple[Change, ...] = ()

    @property
    def label(self) -> str:
        """How messages call it: by its class and its name."""
        return short_name(self.body)

    @cached_property
    def is_async(self) -> bool:
        """Whether the body is an `async def`."""
        return inspect.iscoroutinefunction(self.body)

    @cached_property
    def signature(self) -> Signature:
        """The typed parameters after the context, which are stored with a job.

        Its annotations are resolved at the first look: they may name classes defined later.
        """
        return Signature.of(self.body, name=self.label, skip=2)

    @cached_property
    def checks(self) -> tuple[Guard, ...]:
        """Its guards, each with what it says when it refuses."""
        return tuple(
            Guard.of(function, owner=self.name, label=label_of)
            for function in self.guards
        )

    def edge(self, kind: str) -> str:
        """Return the name of one of the edges that a job of this action takes."""
        return f"{self.name}.{kind}"

    def returning(self, source: str) -> str:
        """Return the kind of edge that leads from `during` back to *source*."""
        return "return" if len(self.source) == 1 else f"return.{source}"

    def completing(self, target: str) -> str:
        """Return the kind of edge that leads to *target*, when the method has returned."""
        return "complete" if len(self.targets) <= 1 else f"complete.{target}"

    @property
    def beginning(self) -> str:
        """The kind of an edge that a job which begins takes: its guards are asked then."""
        if self.during is not None:
            return "start"
        return (
            self.completing(value_of(self.targets[0])) if self.targets else "complete"
        )

    @property
    def target(self) -> enum.Enum | None:
        """Its one target."""
        return self.targets[0] if len(self.targets) == 1 else None

    def target_of(self, returned: object) -> enum.Enum:
        """Return the target to which a record goes whose method has *returned* that.

        Raises:
            StateJobsError: It is none of several.
        """
        if len(self.targets) == 1:
            return self.targets[0]
        for target in self.targets:
            if target == returned:
                return target
        listed = " or ".join(f"{type(t).__name__}.{t.name}" for t in self.targets)
        what = "nothing" if returned is None else repr(returned)
        raise StateJobsError(
            f"action {self.name!r} returned {what}, and leads to {listed}",
            why="what it returns says which way its record goes",
            fix=f"return {listed} at the end of each of its ways",
        )

    def __repr__(self) -> str:
        targets = _listed(self.targets) or (DELETED if self.deletes else STAYS)
        return f"<action {self.name}: {_listed(self.source)} → {targets}>"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TaskSpec:
    """A task as it was written."""

    name: str
    """Of its function."""
    body: Callable[..., Any]
    written: TaskOptions
    """Its options as they were written."""
    chosen: frozenset[str]
    """Those that were given, of the options for which a domain may have a default."""
    home: Home
    takes_context: bool
    """Whether its first parameter is the context of the job."""
    timetable: Timetable | None = None
    """When it runs by itself; None when only somebody asks for it."""
    discard_hook: Callable[..., None] | None = None
    """Takes the session, the reason, and the arguments of the job."""
    actors: Actors = field(default_factory=Actors)
    """How who asks for its jobs is written and found again."""

    def __post_init__(self) -> None:
        """Follow the domain."""
        self.home.rely(self)

    @property
    def key(self) -> str:
        """Stable name stored with its jobs."""
        return self.written.key

    @cached_property
    def options(self) -> TaskOptions:
        """How its jobs are stored and run."""
        return self.home.resolved(self.written, self.chosen)

    def forget_options(self) -> None:
        """Ask for them again."""
        vars(self).pop("options", None)

    @cached_property
    def is_async(self) -> bool:
        """Whether the body is an `async def`."""
        return inspect.iscoroutinefunction(self.body)

    @cached_property
    def signature(self) -> Signature:
        """The typed parameters after the context, which are stored with a job."""
        return Signature.of(
            self.body, name=self.name, skip=1 if self.takes_context else 0
        )

    @cached_property
    def unique_keys(self) -> UniqueKeys | None:
        """What makes the dedupe keys of its jobs; None when each request makes a job."""
        unique = self.options.unique
        return None if unique is None else UniqueKeys(unique.by, self.signature)

    def __repr__(self) -> str:
        return f"<task {self.key}>"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HookSpec:
    """A hook as it was written: what runs, beside the action, when its trigger's job ends so."""

    kind: HookKind
    trigger: TriggerSpec
    body: Callable[..., Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class BoundTrigger:
    """A trigger as one resource has it: with its key resolved, its action and its hooks."""

    key: str
    aliases: tuple[str, ...]
    name: str
    """Of the attribute that it is."""
    spec: TriggerSpec
    action: ActionSpec
    hooks: Mapping[HookKind, HookSpec]
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    """`DELETED` alone where its action deletes the record, none where it leaves it."""
    during: str | None
    failed: str | None
    home: Home
    runs: Mapping[str, tuple[Promise, ...]]
    """The jobs that its action enqueues, by the target to which the record goes."""

    @cached_property
    def options(self) -> TriggerOptions:
        """How its jobs are stored and run."""
        return self.home.resolved(self.spec.options, self.spec.chosen)

    @property
    def schedule(self) -> ScheduleSpec | None:
        """When it ticks; None when only requests make its jobs."""
        return self.spec.schedule

    @property
    def origins(self) -> Mapping[str, str]:
        """Whence each of its options is for which a domain may have a default."""
        return self.home.origins(self.spec.options, self.spec.chosen)

    def forget_options(self) -> None:
        """Ask for them again."""
        vars(self).pop("options", None)

    @cached_property
    def prefix(self) -> str:
        """What comes before the record in the dedupe keys of its jobs.

        Only one open job of this trigger and a record may have one.
        """
        return f"{self.key}:"

    @cached_property
    def former_prefixes(self) -> tuple[str, ...]:
        """The same, of jobs that were enqueued under a former key."""
        return tuple(f"{alias}:" for alias in self.aliases)

    @property
    def deletes(self) -> bool:
        """Whether its action deletes the record."""
        return self.action.deletes

    def of(self, record: object) -> BoundTrigger:
        """Return it as the class of *record* has it: a subclass may override action and hook."""
        found: BoundTrigger = type(record).__statejobs__.triggers.get(self.key, self)  # type: ignore[attr-defined]
        return found

    def dedupe_keys(self, record_id: str) -> list[str]:
        """Return the dedupe keys that jobs for a record may have: of today, and former ones."""
        return [
            f"{prefix}{record_id}" for prefix in (self.prefix, *self.former_prefixes)
        ]


def short_name(method: Callable[..., Any]) -> str:
    """Return how messages call a *method*: by its class and its name."""
    return ".".join(method.__qualname__.split(".")[-2:])


def _listed(states: tuple[enum.Enum, ...]) -> str:
    return ", ".join(value_of(state) for state in states)

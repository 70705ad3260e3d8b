"""A resource as compiled from its declarations: graph, kernel, and triggers by key."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import Mapper

from statejobs.machine.guard import Guard
from statejobs.machine.kernel import Kernel
from statejobs.resource.action import Action
from statejobs.resource.columns import StateDeclaration
from statejobs.resource.identity import encode_identity
from statejobs.resource.ledger import value_of
from statejobs.resource.transition import Transition
from statejobs.resource.trigger import Trigger
from statejobs.store.naming import Names, names_beside
from statejobs.values.graph import Edge, EdgeKind, MachineSpec, TriggerEdges
from statejobs.values.options import RESOURCE_PLACE, TriggerOptions
from statejobs.values.redaction import Redaction


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoundTrigger:
    """A trigger as one resource has it: with its key resolved."""

    key: str
    aliases: tuple[str, ...]
    trigger: Trigger
    action: Action[Any, Any, Any, Any]
    sources: tuple[str, ...]
    target: str
    during: str | None
    failed: str | None

    @property
    def options(self) -> TriggerOptions:
        """How its jobs are stored and run."""
        return self.trigger.options

    @property
    def deletes(self) -> bool:
        """Whether its action deletes the record; `target` then is `DELETED`."""
        return self.action.target is None

    def dedupe_key(self, record_id: str) -> str:
        """Return what only one open job of this trigger and that record may have."""
        return f"{self.key}:{record_id}"

    def dedupe_keys(self, record_id: str) -> list[str]:
        """Return the same, and what jobs have that were enqueued under a former key."""
        return [f"{key}:{record_id}" for key in (self.key, *self.aliases)]


@dataclass(frozen=True, kw_only=True, eq=False)
class ResourceModel:
    """Everything that was declared on one resource class."""

    cls: type
    name: str
    """Stable name stored with jobs and history: `__resource__`, or the class's name."""
    attribute: str
    declaration: StateDeclaration
    has_history: bool
    transitions: Mapping[str, Transition[Any, Any, Any]]
    triggers: Mapping[str, BoundTrigger]
    """By key."""
    redactions: set[Redaction] = field(default_factory=set)
    """Of the apps that have it: its history hides whatever one of them hides."""

    @cached_property
    def spec(self) -> MachineSpec:
        """The graph, as plain values."""
        declared = self.declaration
        return MachineSpec(
            name=self.cls.__name__,
            states=tuple(value_of(state) for state in declared.states),
            initial=value_of(declared.initial),
            final=tuple(value_of(state) for state in declared.final),
            deprecated=tuple(value_of(state) for state in declared.deprecated),
            edges=tuple(self._edges()),
            triggers=tuple(_trigger_edges(bound) for bound in self.triggers.values()),
            initial_trigger=self.key_of(declared.run_trigger),
            attribute=self.attribute,
        )

    @cached_property
    def kernel(self) -> Kernel:
        """What fires the graph."""
        functions = [
            *(guard for t in self.transitions.values() for guard in t.guards),
            *(guard for b in self.triggers.values() for guard in b.action.guards),
        ]
        guards = {guard.name: guard for guard in map(Guard.of, functions)}
        return Kernel(self.spec, members=self.members, guards=guards)

    @cached_property
    def members(self) -> Mapping[str, enum.Enum]:
        """States by stored value."""
        return {value_of(state): state for state in self.declaration.states}

    @cached_property
    def mapper(self) -> Mapper[Any]:
        """The mapper of the class."""
        mapper: Mapper[Any] = sa_inspect(self.cls)
        return mapper

    @cached_property
    def table(self) -> Table:
        """The table that holds the state; under joined inheritance the base's."""
        table = self.state_column.table
        assert isinstance(table, Table)  # noqa: S101 - a resource is mapped to a table
        return table

    @cached_property
    def names(self) -> Names:
        """What we call things in statements on its table."""
        return names_beside(self.table)

    @cached_property
    def eager_relations(self) -> tuple[str, ...]:
        """Names of the relationships that are loaded together with a record."""
        lazily = {"select", "raise", "raise_on_sql", "noload", "write_only", "dynamic", True, None}
        return tuple(r.key for r in self.mapper.relationships if r.lazy not in lazily)

    @cached_property
    def state_column(self) -> Column[Any]:
        """The column that holds the state."""
        column: Column[Any] = self.mapper.columns[self.attribute]
        return column

    @cached_property
    def machine_names(self) -> frozenset[str]:
        """What the columns that only the machine writes are called, as attributes and in SQL."""
        state = self.state_column
        return frozenset(
            {self.attribute, state.key, state.name, "state_version", "state_changed_at"}
        )

    @cached_property
    def tells_of_creation(self) -> bool:
        """Whether creation leaves more than the record: history, or a job."""
        return self.has_history or bool(self.spec.promised_by(self.spec.initial))

    def member(self, value: str) -> enum.Enum:
        """Return the state stored as *value*."""
        return self.members[value]

    def bound(self, trigger: Trigger | None) -> BoundTrigger | None:
        """Return *trigger* as this resource has it."""
        if trigger is None:
            return None
        for bound in self.triggers.values():
            if bound.trigger is trigger:
                return bound
        raise KeyError(trigger)

    def key_of(self, trigger: Trigger | None) -> str | None:
        """Return the key under which this resource has *trigger*."""
        bound = self.bound(trigger)
        return bound.key if bound else None

    def record_id(self, record: object) -> str:
        """Return the primary key of *record* as canonical text."""
        return encode_identity(self.mapper.primary_key_from_instance(record))

    def label(self, record: object) -> str:
        """Return how messages call *record*."""
        state = sa_inspect(record)
        if state.identity is None:
            return f"{self.cls.__name__} (new)"
        return f"{self.cls.__name__} {encode_identity(state.identity)}"

    def why_not_start(self, record: object, action: Action[Any, Any, Any, Any]) -> tuple[str, ...]:
        """Return why a job of *action* could not start on *record* now."""
        kind = "complete" if action.during is None else "start"
        return self.kernel.why_not(record, action.edge(kind))

    def could_fire(self, record: object) -> tuple[str, ...]:
        """Return the transitions that *record* could fire now, as a hint beside what went wrong."""
        with suppress(Exception):  # a guard of another transition must not hide the reason
            return self.kernel.available(record)
        return ()

    def _edges(self) -> Iterator[Edge]:
        for declared in self.transitions.values():
            yield Edge(
                name=declared.name,
                sources=tuple(value_of(state) for state in declared.source),
                target=value_of(declared.target),
                trigger=self.key_of(declared.run_trigger),
                guards=tuple(Guard.of(guard).name for guard in declared.guards),
                doc=(declared.body.__doc__ or "").strip(),
            )
        for bound in self.triggers.values():
            yield from _action_edges(bound)


def resolve_key(key: str, resource: str) -> str:
    """Return *key* with the resource's name in its place."""
    return key.replace(RESOURCE_PLACE, resource.lower())


def _action_edges(bound: BoundTrigger) -> Iterator[Edge]:
    action = bound.action
    guards = tuple(Guard.of(guard).name for guard in action.guards)

    def edge(
        kind: EdgeKind, sources: tuple[str, ...], target: str, *, name: str | None = None,
        guards: tuple[str, ...] = (),
    ) -> Edge:  # fmt: skip
        return Edge(
            name=action.edge(name or kind.value), sources=sources, target=target, kind=kind,
            trigger=bound.key, guards=guards,
        )  # fmt: skip

    if bound.during is None:
        yield edge(EdgeKind.COMPLETE, bound.sources, bound.target, guards=guards)
        if bound.failed is not None:
            yield edge(EdgeKind.DISCARD, bound.sources, bound.failed)
        return
    running = (bound.during,)
    yield edge(EdgeKind.START, bound.sources, bound.during, guards=guards)
    yield edge(EdgeKind.COMPLETE, running, bound.target)
    for source in bound.sources:
        yield edge(EdgeKind.RETURN, running, source, name=action.returning(source))
    if bound.failed is not None:  # from a source too: a person may cancel a job that waits
        yield edge(EdgeKind.DISCARD, (*running, *bound.sources), bound.failed)


def _trigger_edges(bound: BoundTrigger) -> TriggerEdges:
    return TriggerEdges(
        key=bound.key,
        name=bound.trigger.name,
        action=bound.action.name,
        sources=bound.sources,
        target=bound.target,
        during=bound.during,
        failed=bound.failed,
        queue=bound.options.queue,
        max_attempts=bound.options.max_attempts,
    )

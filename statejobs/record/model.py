"""A resource as compiled from its declarations: graph, kernel, and bound triggers by key."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import Mapper

from statejobs.acting import Acting, current_actor, is_system
from statejobs.errors import TenantMismatchError
from statejobs.machine.guard import Guard
from statejobs.machine.kernel import Kernel
from statejobs.record.actors import Actors
from statejobs.record.edges import action_edges, transition_edge, trigger_edges
from statejobs.record.home import Home
from statejobs.record.identity import encode_identity
from statejobs.record.ledger import value_of
from statejobs.record.specs import (
    ActionSpec,
    BoundTrigger,
    PromiseSpec,
    StateSpec,
    TransitionSpec,
    TriggerSpec,
    label_of,
)
from statejobs.store.naming import Names
from statejobs.store.records import RecordTable
from statejobs.values.graph import Edge, MachineSpec, Promise
from statejobs.values.redaction import Redaction


@dataclass(frozen=True, kw_only=True, eq=False)
class ResourceModel:
    """Everything that was declared on one resource class."""

    cls: type
    name: str
    """Stable name stored with jobs and history: `__resource__`, or the class's name."""
    attribute: str
    state: StateSpec
    has_history: bool
    transitions: Mapping[str, TransitionSpec]
    triggers: Mapping[str, BoundTrigger]
    """By key."""
    home: Home
    tenant: str | None = None
    """The attribute that says whose a record is: `__tenant__`."""
    redactions: set[Redaction] = field(default_factory=set)
    """Of the apps that have it: its history hides whatever one of them hides."""
    actors: Actors = field(default_factory=Actors)
    """How who acts on its records is written and found again."""

    def __post_init__(self) -> None:
        """Follow the domain."""
        self.home.rely(self)

    def forget_options(self) -> None:
        """Ask for those of the triggers again, and show them in the graph."""
        for bound in self.triggers.values():
            bound.forget_options()
        vars(self).pop("spec", None)
        self.cls.__machine__ = self.spec  # type: ignore[attr-defined]

    @cached_property
    def spec(self) -> MachineSpec:
        """The graph, as plain values."""
        written = self.state
        return MachineSpec(
            name=self.cls.__name__,
            states=tuple(value_of(state) for state in written.states),
            initial=value_of(written.initial),
            final=tuple(value_of(state) for state in written.final),
            deprecated=tuple(value_of(state) for state in written.deprecated),
            edges=tuple(self._edges()),
            triggers=tuple(trigger_edges(bound) for bound in self.triggers.values()),
            initial_runs=self.promised(written.promises),
            attribute=self.attribute,
        )

    @cached_property
    def kernel(self) -> Kernel:
        """What fires the graph."""
        functions = [
            *(guard for t in self.transitions.values() for guard in t.guards),
            *(guard for b in self.triggers.values() for guard in b.action.guards),
        ]
        made = (Guard.of(function, label=label_of) for function in functions)
        guards = {guard.name: guard for guard in made}
        return Kernel(self.spec, members=self.members, guards=guards)

    @property
    def timeouts(self) -> tuple[TransitionSpec, ...]:
        """The transitions that fire by themselves."""
        return tuple(t for t in self.transitions.values() if t.after is not None)

    @cached_property
    def later(self) -> frozenset[str]:
        """Keys of the triggers that anything runs later."""
        return frozenset(one.key for one in self.spec.promises if one.is_later)

    @cached_property
    def job_states(self) -> frozenset[str]:
        """The states in which a job may wait or run: who leaves one may leave it behind."""
        bound = self.triggers.values()
        return frozenset(
            state for one in bound for state in (*one.sources, one.during) if state
        )

    @cached_property
    def departures(self) -> Mapping[str, frozenset[str]]:
        """By the key of a trigger the states whose leaving leaves its waiting jobs behind.

        While another action runs, what is for later waits beside it for the record's return.
        """
        return {
            key: frozenset(bound.sources).union(
                self._during_beside(bound) if key in self.later else ()
            )
            for key, bound in self.triggers.items()
        }

    def _during_beside(self, bound: BoundTrigger) -> Iterator[str]:
        for other in self.triggers.values():
            starts_there = not set(other.sources).isdisjoint(bound.sources)
            if other.during and other is not bound and starts_there:
                yield other.during

    @cached_property
    def key_names(self) -> frozenset[str]:
        """The attributes of the primary key."""
        columns = self.mapper.primary_key
        return frozenset(
            self.mapper.get_property_by_column(column).key for column in columns
        )

    @cached_property
    def members(self) -> Mapping[str, enum.Enum]:
        """States by stored value."""
        return {value_of(state): state for state in self.state.states}

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
    def records(self) -> RecordTable:
        """Its table, as SQL sees it."""
        return RecordTable(self.table, self.state_column)

    @cached_property
    def names(self) -> Names:
        """What we call things in statements on its table."""
        return self.records.names

    @cached_property
    def eager_relations(self) -> tuple[str, ...]:
        """Names of the relationships that are loaded together with a record."""
        lazily = {
            "select",
            "raise",
            "raise_on_sql",
            "noload",
            "write_only",
            "dynamic",
            True,
            None,
        }
        return tuple(r.key for r in self.mapper.relationships if r.lazy not in lazily)

    @cached_property
    def state_column(self) -> Column[Any]:
        """The column that holds the state."""
        column: Column[Any] = self.mapper.columns[self.attribute]
        return column

    @cached_property
    def tenant_column(self) -> Column[Any] | None:
        """The column that says whose a record is."""
        return None if self.tenant is None else self.mapper.columns[self.tenant]

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
        return self.has_history or bool(self.spec.promises_in(self.spec.initial))

    @cached_property
    def by_spec(self) -> Mapping[TriggerSpec, BoundTrigger]:
        """Its triggers by what was written: one of a mixin has another key in each resource."""
        return {bound.spec: bound for bound in self.triggers.values()}

    def promised(self, written: Sequence[PromiseSpec]) -> tuple[Promise, ...]:
        """Return promises as they were *written*, by the keys that this resource gives them."""
        return tuple(
            Promise(self.by_spec[one.trigger].key, one.delay) for one in written
        )

    def record_id(self, record: object) -> str:
        """Return the primary key of *record* as canonical text."""
        return encode_identity(self.mapper.primary_key_from_instance(record))

    def label(self, record: object) -> str:
        """Return how messages call *record*."""
        state = sa_inspect(record)
        if state.identity is None:
            return f"{self.cls.__name__} (new)"
        return f"{self.cls.__name__} {encode_identity(state.identity)}"

    def why_not_start(self, record: object, action: ActionSpec) -> tuple[str, ...]:
        """Return why a job of *action* could not start on *record* now."""
        return self.kernel.why_not(record, action.edge(action.beginning))

    def tenant_of(self, record: object, acting: Acting) -> str | None:
        """Return for whom *record* is moved: its own tenant, else the one that was named.

        Raises:
            TenantMismatchError: Somebody named another.
        """
        if self.tenant is None:
            return acting.tenant
        own = getattr(record, self.tenant)
        if own is None:
            return acting.tenant
        return self.refuse_other_tenant(self.label(record), str(own), acting)

    def refuse_other_tenant(self, label: str, own: str, acting: Acting) -> str:
        """Return the tenant of a record; refuse another that was named."""
        named = acting.tenant if acting.is_named else None
        if named is not None and named != own:
            raise TenantMismatchError(label, tenant=own, named=named)
        return own

    def why_forbidden(self, record: object, written: TransitionSpec) -> tuple[str, ...]:
        """Return why who acts may not fire a transition of *record* that its state allows."""
        if not written.allow or is_system():
            return ()
        if self.members.get(self.kernel.state_of(record)) not in written.source:
            return ()
        actor = current_actor()
        return tuple(
            permission.reason
            for permission in written.permissions
            if not permission.allows(record, actor)
        )

    def available(self, record: object) -> tuple[str, ...]:
        """Return the transitions that *record* could fire now, for who acts."""
        return tuple(
            name
            for name in self.kernel.available(record)
            if not self.why_forbidden(record, self.transitions[name])
        )

    def could_fire(self, record: object) -> tuple[str, ...]:
        """Return the same as a hint beside what went wrong."""
        with suppress(Exception):
            # a guard of another transition must not hide the reason
            return self.available(record)
        return ()

    def _edges(self) -> Iterator[Edge]:
        for written in self.transitions.values():
            yield transition_edge(written, self.promised(written.promises))
        for bound in self.triggers.values():
            yield from action_edges(bound)


def models_within(model: ResourceModel) -> Iterator[ResourceModel]:
    """Return the models of the class and of its subclasses whose rows a query of it returns."""
    for mapper in model.mapper.self_and_descendants:
        if mapper is model.mapper or not mapper.concrete:
            yield mapper.class_.__statejobs__

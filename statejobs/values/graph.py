"""The immutable graph of a machine: what is declared, as plain values.

Everything that reads a machine (the kernel, diagrams, checks, docs, tests) reads these.
States are the *values* of the enum, so that the graph needs no class of the user's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from itertools import chain

from statejobs.values.moments import span
from statejobs.values.options import TriggerOptions
from statejobs.values.timetable import Timetable

STAYS = "(stays)"
"""Where the edge of a job leads that leaves its record where it is: back to each of its sources."""
DELETED = "(deleted)"
"""Where the edge of a job leads that deletes its record: no state, and not among `states`."""


class EdgeKind(StrEnum):
    """Who moves along an edge."""

    TRANSITION = "transition"
    """A person or program fires it by name."""
    START = "start"
    """A job begins: source → during."""
    COMPLETE = "complete"
    """A job ended well: → target."""
    RETURN = "return"
    """An attempt ended without success and will be repeated: during → source."""
    DISCARD = "discard"
    """A job gave up or was cancelled: → failed state."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A job that whatever leads a record to a state enqueues."""

    key: str
    """Of its trigger."""
    delay: timedelta = timedelta()
    """How long it waits."""

    @property
    def is_later(self) -> bool:
        """Whether it waits at all."""
        return bool(self.delay)

    def __str__(self) -> str:
        if not self.is_later:
            return self.key
        return f"{self.key} after {span(self.delay.total_seconds())}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One named move from source states to a target state."""

    name: str
    sources: tuple[str, ...]
    target: str
    kind: EdgeKind = EdgeKind.TRANSITION
    trigger: str | None = None
    """Key of the trigger whose job takes this edge; None for a transition."""
    runs: tuple[Promise, ...] = ()
    """The jobs that it enqueues where it leads."""
    guards: tuple[str, ...] = ()
    """Names of the guards that must hold."""
    allow: tuple[str, ...] = ()
    """Names of the permissions that are asked of whoever fires it."""
    changes: tuple[str, ...] = ()
    """Names of what it changes beside the body."""
    after: timedelta | None = None
    """How long a record is in a source before a worker fires it."""
    doc: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the triggers that it runs."""
        return tuple(promise.key for promise in self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerEdges:
    """What a trigger promises: which states its job starts from and where it lands."""

    key: str
    name: str
    """Attribute name of the trigger on its resource."""
    action: str
    """Name of the method that is run."""
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    """Of several the action returns one; none where it leaves its record where that is, `DELETED`
    alone where it deletes it."""
    during: str | None
    failed: str | None
    options: TriggerOptions = field(hash=False)
    """How its jobs are stored and run, each option that it has."""
    origins: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Whence each option is for which a domain may have a default: `option`, `domain shop`, or
    `default`."""
    schedule: Timetable | None = None
    """When it ticks; None when only requests make its jobs."""

    @property
    def queue(self) -> str:
        """Queue of its jobs."""
        return self.options.queue

    @property
    def max_attempts(self) -> int:
        """Attempts before one of its jobs is discarded."""
        return self.options.max_attempts

    @property
    def deletes(self) -> bool:
        """Whether its action deletes the record."""
        return self.targets == (DELETED,)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """The graph of one resource (or of the job itself)."""

    name: str
    states: tuple[str, ...]
    initial: str
    final: tuple[str, ...] = ()
    deprecated: tuple[str, ...] = ()
    edges: tuple[Edge, ...] = ()
    triggers: tuple[TriggerEdges, ...] = ()
    initial_runs: tuple[Promise, ...] = ()
    """The jobs that creation enqueues."""
    attribute: str = "state"
    """Name of the attribute that holds the state."""
    docs: dict[str, str] = field(default_factory=dict)

    @property
    def transitions(self) -> tuple[Edge, ...]:
        """Edges that people fire by name."""
        return tuple(edge for edge in self.edges if edge.kind is EdgeKind.TRANSITION)

    def edge(self, name: str) -> Edge:
        """Return the edge called *name*; KeyError when there is none."""
        for edge in self.edges:
            if edge.name == name:
                return edge
        raise KeyError(name)

    def leaving(self, state: str) -> tuple[Edge, ...]:
        """Edges that start in *state*."""
        return tuple(edge for edge in self.edges if state in edge.sources)

    @property
    def promises(self) -> tuple[Promise, ...]:
        """The jobs that anything enqueues."""
        runs = [self.initial_runs, *(edge.runs for edge in self.edges)]
        return tuple(chain.from_iterable(runs))

    def promises_in(self, state: str) -> tuple[Promise, ...]:
        """The jobs that a record in *state* is waiting for, one of each trigger."""
        entering = {p.key: p for e in self.edges if e.target == state for p in e.runs}
        if state == self.initial:
            entering |= {promise.key: promise for promise in self.initial_runs}
        return tuple(
            entering[t.key]
            for t in self.triggers
            if t.key in entering and state in t.sources
        )

    def promised_by(self, state: str) -> tuple[str, ...]:
        """Keys of the triggers whose job a record in *state* is waiting for."""
        return tuple(promise.key for promise in self.promises_in(state))

"""What people ask about machines: their graphs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from statejobs.machine.diagram import mermaid
from statejobs.values.graph import (
    Edge,
    EdgeKind,
    MachineSpec,
    Promise,
    TriggerEdges,
)


@dataclass(frozen=True, kw_only=True)
class ShownPromise:
    """A job that a move enqueues."""

    key: str
    delay: float
    """Seconds that it waits."""

    @classmethod
    def of(cls, promise: Promise) -> ShownPromise:
        """Return *promise* for people."""
        return cls(key=promise.key, delay=promise.delay.total_seconds())


@dataclass(frozen=True, kw_only=True)
class ShownEdge:
    """One named move."""

    name: str
    kind: EdgeKind
    sources: tuple[str, ...]
    target: str
    trigger: str | None
    """Key of the trigger whose job takes it; none takes a transition."""
    runs: tuple[ShownPromise, ...]
    guards: tuple[str, ...]
    allow: tuple[str, ...]
    changes: tuple[str, ...]
    after: float | None
    """Seconds in a source before a worker fires it."""
    doc: str


@dataclass(frozen=True, kw_only=True)
class ShownTimetable:
    """When a trigger ticks."""

    trigger: str
    """Its key."""
    cron: str
    timezone: str
    in_words: str

    @classmethod
    def of(cls, trigger: TriggerEdges) -> Iterator[ShownTimetable]:
        """Yield that of *trigger*, if it has one."""
        if trigger.schedule is not None:
            cron = trigger.schedule.cron
            yield cls(
                trigger=trigger.key,
                cron=cron.expression,
                timezone=cron.zone,
                in_words=cron.in_words(),
            )


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The graph of a resource, or of the job itself."""

    name: str
    states: tuple[str, ...]
    initial: str
    final: tuple[str, ...]
    edges: tuple[ShownEdge, ...]
    schedules: tuple[ShownTimetable, ...]
    mermaid: str
    """The same, drawn."""


def machine_of(spec: MachineSpec) -> Machine:
    """Return a graph for people."""
    return Machine(
        name=spec.name,
        states=spec.states,
        initial=spec.initial,
        final=spec.final,
        edges=tuple(map(_edge, spec.edges)),
        schedules=tuple(chain.from_iterable(map(ShownTimetable.of, spec.triggers))),
        mermaid=mermaid(spec),
    )


def _edge(edge: Edge) -> ShownEdge:
    return ShownEdge(
        name=edge.name,
        kind=edge.kind,
        sources=edge.sources,
        target=edge.target,
        trigger=edge.trigger,
        runs=tuple(map(ShownPromise.of, edge.runs)),
        guards=edge.guards,
        allow=edge.allow,
        changes=edge.changes,
        after=None if edge.after is None else edge.after.total_seconds(),
        doc=edge.doc,
    )

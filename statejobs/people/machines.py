"""What people ask about machines: their graphs."""

from __future__ import annotations

from dataclasses import dataclass

from statejobs.machine.diagram import mermaid
from statejobs.values.graph import Edge, EdgeKind, MachineSpec


@dataclass(frozen=True, kw_only=True)
class ShownEdge:
    """One named move."""

    name: str
    kind: EdgeKind
    sources: tuple[str, ...]
    target: str
    trigger: str | None
    """Key of the trigger whose job takes it; none takes a transition."""
    runs: tuple[str, ...]
    """Keys of the triggers that it runs."""
    guards: tuple[str, ...]
    allow: tuple[str, ...]
    doc: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The graph of a resource, or of the job itself."""

    name: str
    states: tuple[str, ...]
    initial: str
    final: tuple[str, ...]
    edges: tuple[ShownEdge, ...]
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
        mermaid=mermaid(spec),
    )


def _edge(edge: Edge) -> ShownEdge:
    return ShownEdge(
        name=edge.name,
        kind=edge.kind,
        sources=edge.sources,
        target=edge.target,
        trigger=edge.trigger,
        runs=edge.keys,
        guards=edge.guards,
        allow=edge.allow,
        doc=edge.doc,
    )

"""The edges of the graph that the transitions and the actions of a resource make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from statejobs.machine.guard import Guard
from statejobs.record.ledger import value_of
from statejobs.record.specs import BoundTrigger, TransitionSpec
from statejobs.values.graph import STAYS, Edge, EdgeKind, Promise, TriggerEdges


def transition_edge(written: TransitionSpec, runs: tuple[Promise, ...]) -> Edge:
    """Return the edge of a transition that enqueues the jobs *runs*."""
    return Edge(
        name=written.name,
        sources=tuple(value_of(state) for state in written.source),
        target=value_of(written.target),
        runs=runs,
        guards=tuple(Guard.of(guard).name for guard in written.guards),
        allow=tuple(permission.name for permission in written.permissions),
        changes=tuple(change.name for change in written.changes),
        after=written.after,
        doc=(written.body.__doc__ or "").strip(),
    )


def action_edges(bound: BoundTrigger) -> Iterator[Edge]:
    """Yield the edges that a job of *bound* takes."""
    action = bound.action
    guards = tuple(Guard.of(guard).name for guard in action.guards)
    changes = tuple(change.name for change in action.changes)

    def edge(
        kind: EdgeKind,
        sources: tuple[str, ...],
        target: str,
        *,
        name: str | None = None,
        guards: tuple[str, ...] = (),
        runs: tuple[Promise, ...] = (),
    ) -> Edge:
        return Edge(
            name=action.edge(name or kind.value),
            sources=sources,
            target=target,
            kind=kind,
            trigger=bound.key,
            guards=guards,
            changes=changes if kind is EdgeKind.COMPLETE else (),
            runs=runs,
        )

    if bound.during is None:
        for target in bound.targets or (STAYS,):
            yield edge(
                EdgeKind.COMPLETE,
                bound.sources,
                target,
                name=action.completing(target),
                guards=guards,
                runs=bound.runs.get(target, ()),
            )
        if bound.failed is not None:
            yield edge(EdgeKind.DISCARD, bound.sources, bound.failed)
        return
    running = (bound.during,)
    yield edge(EdgeKind.START, bound.sources, bound.during, guards=guards)
    for target in bound.targets:
        yield edge(
            EdgeKind.COMPLETE,
            running,
            target,
            name=action.completing(target),
            runs=bound.runs.get(target, ()),
        )
    for source in bound.sources:
        yield edge(EdgeKind.RETURN, running, source, name=action.returning(source))
    if bound.failed is not None:
        # from a source too: a person may cancel a job that waits
        yield edge(EdgeKind.DISCARD, (*running, *bound.sources), bound.failed)


def trigger_edges(bound: BoundTrigger) -> TriggerEdges:
    """Return what *bound* promises, by the names of its states."""
    return TriggerEdges(
        key=bound.key,
        name=bound.name,
        action=bound.action.name,
        sources=bound.sources,
        targets=bound.targets,
        during=bound.during,
        failed=bound.failed,
        options=replace(bound.options, key=bound.key, aliases=bound.aliases),
        origins=bound.origins,
        schedule=None if bound.schedule is None else bound.schedule.timetable,
    )

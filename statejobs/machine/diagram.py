"""Draws a graph as Mermaid text and as rows of a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from statejobs.values.graph import DELETED, STAYS, Edge, EdgeKind, MachineSpec, Promise
from statejobs.values.kinds import check_kind
from statejobs.values.moments import span

_VERBS = {
    EdgeKind.START: "start",
    EdgeKind.COMPLETE: "complete",
    EdgeKind.RETURN: "retry",
    EdgeKind.DISCARD: "discard",
}
_VERBS_OF_NO_STATE = {DELETED: "delete", STAYS: "run"}
_RESERVED = {
    "accdescr",
    "acctitle",
    "as",
    "choice",
    "class",
    "classdef",
    "click",
    "constructor",
    "default",
    "direction",
    "end",
    "fork",
    "hide",
    "href",
    "join",
    "note",
    "root",
    "root_end",
    "root_start",
    "scale",
    "state",
    "statediagram",
    "style",
    "tostring",
    "valueof",
}


def mermaid(spec: MachineSpec, *, counts: Mapping[str, int] | None = None) -> str:
    """Return *spec* as a Mermaid `stateDiagram-v2`, the same text for the same graph.

    Args:
        spec: The graph.
        counts: How many records are in each state, to be shown with its name.
    """
    check_kind("mermaid()", spec, MachineSpec, example="mermaid(Order.__machine__)")
    ids = _ids(spec.states)
    lines = ["stateDiagram-v2"]
    lines += [
        _state(ids[state], _caption(spec, state, counts)) for state in spec.states
    ]
    lines.append(_arrow("[*]", ids[spec.initial], _runs(spec.initial_runs).strip()))
    for (source, target), labels in _arrows(spec).items():
        lines.append(_arrow(ids[source], ids.get(target, "[*]"), ", ".join(labels)))
    lines += [_arrow(ids[state], "[*]", "") for state in spec.final]
    return "\n    ".join(lines) + "\n"


def table(spec: MachineSpec) -> list[tuple[str, str, str, str]]:
    """Return one row (name, sources, target, triggers that it runs) for each edge."""
    return [
        (
            _name(spec, edge),
            ", ".join(edge.sources),
            edge.target,
            ", ".join(map(str, edge.runs)),
        )
        for edge in spec.edges
    ]


def _arrows(spec: MachineSpec) -> dict[tuple[str, str], list[str]]:
    arrows: dict[tuple[str, str], list[str]] = {}
    for edge in spec.edges:
        label = _name(spec, edge) + _ticks(spec, edge) + _runs(edge.runs)
        for source in edge.sources:
            target = source if edge.target == STAYS else edge.target
            arrows.setdefault((source, target), []).append(label)
    return arrows


def _name(spec: MachineSpec, edge: Edge) -> str:
    if edge.kind is EdgeKind.TRANSITION:
        return edge.name + _after(edge)
    actions = {trigger.key: trigger.action for trigger in spec.triggers}
    verb = _VERBS_OF_NO_STATE.get(edge.target, _VERBS[edge.kind])
    return f"{verb} {actions.get(edge.trigger or '', edge.name)}"


def _ticks(spec: MachineSpec, edge: Edge) -> str:
    """Say when a job that takes *edge* first is made by ticks."""
    for trigger in spec.triggers:
        is_first = edge.kind is (
            EdgeKind.START if trigger.during else EdgeKind.COMPLETE
        )
        if trigger.key == edge.trigger and trigger.schedule is not None and is_first:
            return f" ⏰ {trigger.schedule.cron.in_words()}"
    return ""


def _after(edge: Edge) -> str:
    return "" if edge.after is None else f" after {span(edge.after.total_seconds())}"


def _runs(promises: Iterable[Promise]) -> str:
    return "".join(f" ⚙ {promise}" for promise in promises)


def _caption(spec: MachineSpec, state: str, counts: Mapping[str, int] | None) -> str:
    notes = ["deprecated"] if state in spec.deprecated else []
    if counts is not None:
        notes.append(str(counts.get(state, 0)))
    return f"{state} ({', '.join(notes)})" if notes else state or " "


def _state(state_id: str, caption: str) -> str:
    return (
        state_id
        if state_id == caption
        else f'state "{_escaped(caption)}" as {state_id}'
    )


def _arrow(source: str, target: str, label: str) -> str:
    return f"{source} --> {target}" + (f" : {_escaped(label)}" if label else "")


def _ids(states: tuple[str, ...]) -> dict[str, str]:
    """Name each state with an identifier that Mermaid can read; plain names stay as they are."""
    ids = {state: state for state in states if _is_plain(state)}
    taken = set(ids.values())
    for state in states:
        if state not in ids:
            ids[state] = next(name for name in _candidates(state) if name not in taken)
            taken.add(ids[state])
    return ids


def _is_plain(state: str) -> bool:
    return (
        bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", state))
        and state.lower() not in _RESERVED
    )


def _candidates(state: str) -> Iterator[str]:
    name = "s_" + re.sub(r"[^A-Za-z0-9]+", "_", state).strip("_")
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


def _escaped(text: str) -> str:
    """Write what Mermaid would read as syntax as character codes."""
    line = re.sub(r"\s+", " ", text)
    return re.sub(r"[\"#%:;<>`{}\[\]\\]", lambda found: f"#{ord(found.group())};", line)

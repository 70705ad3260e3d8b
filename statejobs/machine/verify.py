"""Refuses a graph that cannot work, before anything is built on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations

from statejobs.errors import DefinitionError, did_you_mean
from statejobs.values.graph import (
    DELETED,
    STAYS,
    Edge,
    EdgeKind,
    MachineSpec,
    Promise,
    TriggerEdges,
)

_NO_STATES = {DELETED: "is gone", STAYS: "stays where it is"}
"""Where edges of jobs lead that lead to no state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Triggers that are run together."""

    where: str
    role: str
    """What the state is there where they are run."""
    state: str
    """In which they are run."""
    promises: tuple[Promise, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(promise.key for promise in self.promises)


def verify(spec: MachineSpec) -> None:
    """Check what can be seen in the graph alone.

    Raises:
        DefinitionError: The first thing found that cannot work.
    """
    for check in _CHECKS:
        check(spec)


def _initial_is_a_state(spec: MachineSpec) -> None:
    _require_state(spec, spec.name, spec.initial, "initial", "creation leads there")


def _final_are_states(spec: MachineSpec) -> None:
    for state in spec.final:
        _require_state(
            spec, spec.name, state, "final", "a record must be able to rest there"
        )


def _deprecated_are_states(spec: MachineSpec) -> None:
    for state in spec.deprecated:
        why = "a deprecated state stays readable, so it must stay in the enum"
        _require_state(spec, spec.name, state, "deprecated", why)


def _triggers_name_states(spec: MachineSpec) -> None:
    why = "the record of its job moves along these states"
    for trigger in spec.triggers:
        where = _action(spec, trigger)
        for state in trigger.sources:
            _require_state(spec, where, state, "source", why)
        for state in trigger.targets:
            if not trigger.deletes:
                _require_state(spec, where, state, "target", why)
        for role in ("during", "failed"):
            state = getattr(trigger, role)
            if state is not None:
                _require_state(spec, where, state, role, why)


def _edges_name_states(spec: MachineSpec) -> None:
    why = "it would fail only when somebody fires it"
    for edge in spec.edges:
        for state in edge.sources:
            _require_state(spec, _edge(spec, edge), state, "source", why)
        if edge.target not in _NO_STATES or edge.kind is not EdgeKind.COMPLETE:
            _require_state(spec, _edge(spec, edge), edge.target, "target", why)


def _no_state_is_called_deleted(spec: MachineSpec) -> None:
    for name, meaning in _NO_STATES.items():
        if name in spec.states:
            raise DefinitionError(
                spec.name,
                f"a state is called {name!r}",
                why=f"that word is written for a record that {meaning}",
                fix="rename the state",
            )


def _names_are_unique(spec: MachineSpec) -> None:
    for name, count in Counter(edge.name for edge in spec.edges).items():
        if count > 1:
            raise DefinitionError(
                spec.name,
                f"{count} edges are called {name!r}",
                why="a name must say which way a record goes",
                fix="give each its own name, or one edge several sources",
            )


def _names_leave_the_attribute_free(spec: MachineSpec) -> None:
    for edge in spec.edges:
        if edge.name == spec.attribute:
            raise DefinitionError(
                _edge(spec, edge),
                "it is called like the attribute that holds the state",
                why="one of them would hide the other",
                fix="rename the transition",
            )


def _edges_have_sources(spec: MachineSpec) -> None:
    for edge in spec.edges:
        if not edge.sources:
            raise DefinitionError(
                _edge(spec, edge),
                "it has no source",
                why="no record could ever take it",
                fix="name the states that it starts from",
            )


def _triggers_have_sources(spec: MachineSpec) -> None:
    for trigger in spec.triggers:
        if not trigger.sources:
            raise DefinitionError(
                _action(spec, trigger),
                "it has no source",
                why="its job would find no record ready",
                fix="name the states that it starts from",
            )


def _final_states_are_left_by_nothing(spec: MachineSpec) -> None:
    for edge in spec.edges:
        for state in edge.sources:
            if state in spec.final and edge.target != STAYS:
                raise DefinitionError(
                    _edge(spec, edge),
                    f"it leaves {state!r}, which is final",
                    why="a record rests for good in a final state",
                    fix=f"take {state!r} out of its sources, or out of final=",
                )


def _deprecated_states_are_never_entered(spec: MachineSpec) -> None:
    fix = "choose another state, or take it out of deprecated="
    why = "a deprecated state is kept for old records and must not get new ones"
    if spec.initial in spec.deprecated:
        what = f"the initial state {spec.initial!r} is deprecated"
        raise DefinitionError(spec.name, what, why=why, fix=fix)
    for edge in spec.edges:
        # A returned record goes back to where it came from: no new one.
        if edge.target in spec.deprecated and edge.kind is not EdgeKind.RETURN:
            what = f"it leads to {edge.target!r}, which is deprecated"
            raise DefinitionError(_edge(spec, edge), what, why=why, fix=fix)


def _during_comes_with_failed(spec: MachineSpec) -> None:
    for trigger in spec.triggers:
        if trigger.during is not None and trigger.failed is None:
            raise DefinitionError(
                _action(spec, trigger),
                "during without failed",
                why=f"when attempts run out, a record in {trigger.during!r} has nowhere to land",
                fix="add failed=, the state for records whose job gave up",
            )


def _runs_name_triggers(spec: MachineSpec) -> None:
    keys = [trigger.key for trigger in spec.triggers]
    for run in _runs(spec):
        for key in run.keys:
            if key not in keys:
                raise DefinitionError(
                    run.where,
                    f"no trigger {key!r}; {did_you_mean(key, keys)}",
                    why="there is no action that its job could run",
                    fix="declare the trigger in this class, or correct its key",
                )


def _runs_start_where_they_are_asked(spec: MachineSpec) -> None:
    triggers = {trigger.key: trigger for trigger in spec.triggers}
    for run in _runs(spec):
        for trigger in (triggers[key] for key in run.keys):
            if run.state not in trigger.sources:
                raise DefinitionError(
                    run.where,
                    f"it runs {trigger.key!r} in {run.state!r}, "
                    f"but action {trigger.action!r} starts from {_listed(trigger.sources)}",
                    why="its job could never run",
                    fix=f"add {run.state!r} to the sources of {trigger.action!r}, "
                    f"or change the {run.role}",
                )


def _runs_name_each_once(spec: MachineSpec) -> None:
    for run in _runs(spec):
        for key, count in Counter(run.keys).items():
            if count > 1:
                raise DefinitionError(
                    run.where,
                    f"it runs {key!r} {count} times",
                    why="a trigger and a record have one job that is not completed",
                    fix="name it once",
                )


def _runs_leave_each_other_their_record(spec: MachineSpec) -> None:
    triggers = {trigger.key: trigger for trigger in spec.triggers}
    for run in _runs(spec):
        # what is for later is there for records that are left where they are
        together = [triggers[p.key] for p in run.promises if not p.is_later]
        for first, second in permutations(together, 2):
            _refuse_to_leave_behind(run, first, second)
            _refuse_to_take_away(run, first, second)


def _refuse_to_leave_behind(
    run: _Run, moving: TriggerEdges, other: TriggerEdges
) -> None:
    """Refuse that the job of *moving* takes the record to where that of *other* is stale."""
    lost = [state for state in _ways_of(moving) if state not in other.sources]
    if not lost:
        return
    raise DefinitionError(
        run.where,
        f"it runs {moving.key!r} and {other.key!r}, but action {other.action!r} "
        f"does not start from {_listed(lost)}, where {moving.action!r} takes the record",
        why=f"a job of {other.key!r} that comes to run then would be stale",
        fix=f"add {_listed(lost, word='and')} to the sources of {other.action!r}"
        + (
            ", and leave out its target: it then leaves the record where it is"
            if other.targets
            else ""
        ),
    )


def _refuse_to_take_away(run: _Run, running: TriggerEdges, other: TriggerEdges) -> None:
    """Refuse that the job of *other* takes the record from where that of *running* works on it."""
    if running.during not in other.sources or not other.targets:
        return
    raise DefinitionError(
        run.where,
        f"it runs {running.key!r} and {other.key!r}, and action {other.action!r} starts from "
        f"{running.during!r}, where {running.action!r} runs",
        why="it would take the record from under that job, whose work were lost",
        fix=f"leave out the target of {other.action!r}: it then leaves the record where it is",
    )


def _ways_of(trigger: TriggerEdges) -> list[str]:
    """Return the states to which a job of *trigger* takes its record."""
    found = (trigger.during, *trigger.targets, trigger.failed)
    return [state for state in found if state is not None]


_CHECKS = (
    _initial_is_a_state,
    _final_are_states,
    _deprecated_are_states,
    _no_state_is_called_deleted,
    _triggers_have_sources,
    _triggers_name_states,
    _during_comes_with_failed,
    _names_are_unique,
    _names_leave_the_attribute_free,
    _edges_have_sources,
    _edges_name_states,
    _final_states_are_left_by_nothing,
    _deprecated_states_are_never_entered,
    _runs_name_triggers,
    _runs_start_where_they_are_asked,
    _runs_name_each_once,
    _runs_leave_each_other_their_record,
)


def _require_state(
    spec: MachineSpec, where: str, state: str, role: str, why: str
) -> None:
    if state not in spec.states:
        raise DefinitionError(
            where,
            f"no {role} state {state!r}; {did_you_mean(state, spec.states)}",
            why=why,
            fix="use a member of the state enum",
        )


def _runs(spec: MachineSpec) -> Iterator[_Run]:
    """Yield where triggers are run."""
    if spec.initial_runs:
        yield _Run(
            where=f"{spec.name}: creation",
            role="initial state",
            state=spec.initial,
            promises=spec.initial_runs,
        )
    for edge in spec.edges:
        if edge.runs:
            yield _Run(
                where=_runner(spec, edge),
                role="target",
                state=edge.target,
                promises=edge.runs,
            )


def _runner(spec: MachineSpec, edge: Edge) -> str:
    """Return how messages call what runs the triggers of *edge*."""
    if edge.kind is EdgeKind.TRANSITION:
        return _edge(spec, edge)
    return f"{spec.name}: action {edge.name.partition('.')[0]!r}"


def _edge(spec: MachineSpec, edge: Edge) -> str:
    if edge.kind is EdgeKind.TRANSITION:
        return f"{spec.name}: transition {edge.name!r}"
    return f"{spec.name}: {edge.kind} edge {edge.name!r}"


def _action(spec: MachineSpec, trigger: TriggerEdges) -> str:
    return f"{spec.name}: action {trigger.action!r} of trigger {trigger.key!r}"


def _listed(states: Iterable[str], *, word: str = "or") -> str:
    return f" {word} ".join(repr(state) for state in states)

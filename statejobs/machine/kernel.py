"""Compiles a graph and fires along it; the only module that knows the `transitions` library.

One machine serves every record of a class. A record is passed in when it fires and never attached:
attaching costs 1.5 ms and keeps the record alive for good. The private subclasses keep the order
and the meaning of the library's callbacks, without its log calls, partials and chained iterators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Any

from transitions import Event, EventData, Machine, State, Transition

from statejobs.errors import DefinitionError, NotFoundError, did_you_mean
from statejobs.machine.guard import Guard
from statejobs.machine.verify import verify
from statejobs.values.graph import DELETED, STAYS, Edge, EdgeKind, MachineSpec
from statejobs.values.unrun import ran


@dataclass(frozen=True, slots=True)
class NotFired:
    """Why a firing was refused; the state was not written."""

    state: str
    """In which the subject is."""
    reasons: tuple[str, ...]
    """One sentence for each refusal."""


@dataclass(slots=True)
class Firing:
    """One firing while it happens."""

    edge: Edge
    source: str
    body: Callable[[], object] | None = None
    guards_checked: bool = False
    """The guards held already; they are not asked again."""
    refusals: tuple[str, ...] = ()
    moved_to: str | None = None
    """Where the body itself has moved the subject."""
    result: object = None
    """What the body returned."""


class Kernel:
    """Fires the edges of one graph on any number of subjects, from any number of threads."""

    by_source: Mapping[str, tuple[str, ...]]
    """Names of the transitions that leave each state."""

    def __init__(
        self,
        spec: MachineSpec,
        *,
        members: Mapping[str, object] | None = None,
        guards: Mapping[str, Guard | Callable[[Any], object]] | None = None,
        write: Callable[[Any, Any], None] | None = None,
    ) -> None:
        """Check and compile *spec*.

        Args:
            spec: The graph; it is verified.
            members: What to write for each state; the state itself where there is none.
            guards: Every guard that an edge names.
            write: Stores a member in a subject; sets the attribute by default.

        Raises:
            DefinitionError: The graph cannot work, or a guard is missing.
        """
        verify(spec)
        self.spec = spec
        self._attribute = spec.attribute
        self._edges = {edge.name: edge for edge in spec.edges}
        self._guards = {
            edge.name: _guards_of(spec, edge, guards or {}) for edge in spec.edges
        }
        self._machine = _compile(spec, self._guards, members or {}, write)
        self.by_source = MappingProxyType(
            {state: _transitions_from(spec, state) for state in spec.states}
        )

    def fire(
        self,
        subject: object,
        name: str,
        *,
        body: Callable[[], object] | None = None,
        skip_guards: bool = False,
    ) -> Firing | NotFired:
        """Move *subject* along the edge called *name*, and return how that went.

        It is not fired in the wrong state, when a guard says no, or when the body itself moved
        the subject.

        The source is checked, then every guard is asked, the body runs, and last the state is
        written. If anything raises, the state is as it was.

        Raises:
            NotFoundError: There is no such edge.
        """
        edge = self._edge(name)
        firing = Firing(edge, self.state_of(subject), body, skip_guards)
        if not self._machine.events[name].trigger(subject, firing=firing):
            state = firing.moved_to or firing.source
            return NotFired(state, firing.refusals or (_wrong_state(state, edge),))
        return firing

    def why_not(self, subject: object, name: str) -> tuple[str, ...]:
        """Return one sentence for each reason why *subject* cannot fire *name*; empty if it can.

        Raises:
            NotFoundError: There is no such edge.
        """
        edge = self._edge(name)
        source = self.state_of(subject)
        if source not in edge.sources:
            return (_wrong_state(source, edge),)
        return tuple(
            guard.reason for guard in self._guards[name] if not guard.holds(subject)
        )

    def available(self, subject: object) -> tuple[str, ...]:
        """Names of the transitions that *subject* could fire now; their guards are asked."""
        names = self.by_source.get(self.state_of(subject), ())
        return tuple(name for name in names if not self.why_not(subject, name))

    def state_of(self, subject: object) -> str:
        """Return the state of *subject*, as the value that the graph uses."""
        return self._machine.name_of(getattr(subject, self._attribute))

    def _edge(self, name: str) -> Edge:
        edge = self._edges.get(name)
        if edge is None:
            hint = did_you_mean(name, self._edges)
            raise NotFoundError(
                f"no transition {name!r}",
                where=self.spec.name,
                fix=hint,
            )
        return edge


def _wrong_state(state: str, edge: Edge) -> str:
    sources = " or ".join(repr(source) for source in edge.sources)
    # of an action: what people call all its edges
    name, _, _ = edge.name.partition(".")
    return f"it is in {state!r}, and {name!r} starts from {sources}."


def _transitions_from(spec: MachineSpec, state: str) -> tuple[str, ...]:
    return tuple(e.name for e in spec.leaving(state) if e.kind is EdgeKind.TRANSITION)


def _guards_of(
    spec: MachineSpec, edge: Edge, known: Mapping[str, Guard | Callable[[Any], object]]
) -> tuple[Guard, ...]:
    missing = [name for name in edge.guards if name not in known]
    if missing:
        raise DefinitionError(
            f"{spec.name}: transition {edge.name!r}",
            f"no guard {missing[0]!r}; {did_you_mean(missing[0], known)}",
            why="each guard that an edge names must be given to the kernel",
            fix="pass the guard, or correct its name",
        )
    found = (known[name] for name in edge.guards)
    guards = (one if isinstance(one, Guard) else Guard.of(one) for one in found)
    # of an action: what people call all its edges
    owner, _, _ = edge.name.partition(".")
    return tuple(replace(guard, owner=owner) for guard in guards)


# ------------------------------------------------------------------ the `transitions` side


def _compile(
    spec: MachineSpec,
    guards: Mapping[str, tuple[Guard, ...]],
    members: Mapping[str, object],
    write: Callable[[Any, Any], None] | None,
) -> _Machine:
    machine = _Machine(
        spec, {state: members.get(state, state) for state in spec.states}, write
    )
    for edge in spec.edges:
        if edge.target in {DELETED, STAYS}:
            continue  # leads to no state, so nothing can fire it
        machine.add_transition(
            edge.name,
            list(dict.fromkeys(edge.sources)),  # twice would ask its guards twice
            machine.states[edge.target],  # as text, "=" would mean "where it is"
            conditions=[_condition(guard) for guard in guards[edge.name]],
            before=_run_body,  # a list would be shared by the transitions of all sources
        )
    return machine


def _condition(guard: Guard) -> Callable[[EventData], bool]:
    def holds(event_data: EventData) -> bool:
        firing: Firing = event_data.kwargs["firing"]
        if firing.guards_checked or guard.holds(event_data.model):
            return True
        firing.refusals += (guard.reason,)
        return False

    return holds


def _run_body(event_data: EventData) -> None:
    firing: Firing = event_data.kwargs["firing"]
    if firing.body is None:
        return
    firing.result = firing.body()
    if firing.result is not None:
        ran(firing.result, "transition", firing.edge.name)
    # A body may fire another edge; writing our target then would bury that move.
    machine: Any = event_data.machine
    now = machine.name_of(getattr(event_data.model, machine.model_attribute))
    if now != firing.source:
        firing.moved_to = now
        firing.refusals = (f"its own body moved it from {firing.source!r} to {now!r}.",)


class _Transition(Transition):
    def execute(self, event_data: EventData) -> bool:
        machine = event_data.machine
        if self.prepare:
            machine.callbacks(self.prepare, event_data)
        if self.conditions and not self._eval_conditions(event_data):
            return False
        if self.before:
            machine.callbacks(self.before, event_data)
            if event_data.kwargs["firing"].moved_to is not None:
                return False
        self._change_state(event_data)
        if self.after:
            machine.callbacks(self.after, event_data)
        return True

    def _eval_conditions(self, event_data: EventData) -> bool:
        # A list: every guard is asked, so that a refusal names each reason.
        return all([condition.check(event_data) for condition in self.conditions])  # noqa: C419

    def _change_state(self, event_data: EventData) -> None:
        machine = event_data.machine
        source = event_data.state
        target = machine.states[self.dest or ""]
        if source.on_exit:
            machine.callbacks(source.on_exit, event_data)
        machine.set_state(target, event_data.model)
        event_data.state = target
        if target.on_enter:
            machine.callbacks(target.on_enter, event_data)


class _Event(Event):
    # No machine-wide hooks: on_exception and finalize_event would swallow errors.

    def trigger(self, model: object, *args: Any, **kwargs: Any) -> bool:
        source = kwargs["firing"].source
        # `get`: the library's defaultdict would remember every state that was asked for.
        found = self.transitions.get(source)
        if found is None:
            return False
        machine = self.machine
        event_data = EventData(
            machine.states[source], self, machine, model, args, kwargs
        )
        for transition in found:
            event_data.transition = transition
            if transition.execute(event_data):
                return True
        return False


class _Machine(Machine):
    transition_cls = _Transition
    event_cls = _Event

    def __init__(
        self,
        spec: MachineSpec,
        members: Mapping[str, object],
        write: Callable[[Any, Any], None] | None,
    ) -> None:
        super().__init__(
            model=None,
            states=list(spec.states),
            initial=spec.initial,
            auto_transitions=False,
            send_event=True,
            queued=False,
            model_attribute=spec.attribute,
        )
        self._members = members
        self._write = write
        # A StrEnum member hashes as its value; members of any other Enum need an entry.
        self._names: dict[object, str] = {
            member: name for name, member in members.items()
        }
        self._names.update((name, name) for name in members)

    def name_of(self, held: object) -> str:
        name = self._names.get(held)
        return (
            str(held.value if isinstance(held, Enum) else held)
            if name is None
            else name
        )

    def set_state(self, state: str | Enum | State, model: object = None) -> None:
        member = self._members[state.name if isinstance(state, State) else str(state)]
        if self._write is None:
            setattr(model, self.model_attribute, member)
        else:
            self._write(model, member)

    def callbacks(self, funcs: Iterable[Any], event_data: EventData) -> None:
        for func in funcs:
            func(event_data)

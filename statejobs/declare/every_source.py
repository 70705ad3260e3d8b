"""What `source="*"` of a transition means in a class: it depends on the states and the actions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from statejobs.declare.action import Action
from statejobs.errors import DefinitionError
from statejobs.record.specs import ActionSpec, StateSpec, TransitionSpec


def names_every(spec: TransitionSpec) -> bool:
    """Return whether "*" is among the sources of *spec*, for what it leaves without being told."""
    return any(map(is_every, spec.source))


def refuse_every(where: str, sources: tuple[object, ...]) -> None:
    """Refuse "*" among the *sources* of an action.

    Raises:
        DefinitionError: As said.
    """
    if any(map(is_every, sources)):
        raise DefinitionError(
            where,
            'its source is "*", which only a transition may have',
            why="a record waits for its job in the sources of the action; in any other state the "
            "job is cancelled as left",
            fix="name the states in which it waits: action([S.QUEUED, S.HELD], …); to start the "
            'job from everywhere, let a @transition("*", S.QUEUED, run_trigger=…) lead there',
        )


def with_every_source(
    cls: type, state: StateSpec, found: Mapping[str, Any]
) -> dict[str, TransitionSpec]:
    """Return the transitions among what was *found* on *cls*, each with its sources."""
    actions = [one.spec for one in found.values() if isinstance(one, Action)]
    written = {
        name: one.spec
        for name, one in found.items()
        if isinstance(getattr(one, "spec", None), TransitionSpec)
    }
    return {
        name: _with_sources(cls, state, actions, spec) if names_every(spec) else spec
        for name, spec in written.items()
    }


def resolved(spec: TransitionSpec, owner: type) -> TransitionSpec:
    """Return *spec* as *owner* has it; as it was written where nobody has a machine yet."""
    model = getattr(owner, "__statejobs__", None)
    if model is None:
        return spec
    found: TransitionSpec = model.transitions.get(spec.name, spec)
    return found


def _with_sources(
    cls: type, state: StateSpec, actions: list[ActionSpec], spec: TransitionSpec
) -> TransitionSpec:
    kept = {*state.final, *state.deprecated, spec.target}
    kept |= {action.during for action in actions if action.during is not None}
    every = [one for one in state.states if one not in kept]
    named = [one for one in spec.source if not is_every(one)]
    sources = tuple(dict.fromkeys([*every, *named]))
    for known in _of_bases(cls, spec.name):
        # one object, if it is the same in both: bulk moves a class with its subclasses
        if known.body is spec.body and known.source == sources:
            return known
    return replace(spec, source=sources)


def is_every(source: object) -> bool:
    """Return whether *source* stands for every state."""
    return type(source) is str and source == "*"  # a state may be called so


def _of_bases(cls: type, name: str) -> Iterator[TransitionSpec]:
    for base in cls.__mro__[1:]:
        model = vars(base).get("__statejobs__")
        if model is not None and name in model.transitions:
            yield model.transitions[name]

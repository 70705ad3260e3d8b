"""Collects what a class declares and makes its model, once it is seen to work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import MappedColumn

from statejobs.declare.action import Action
from statejobs.declare.action_checks import check_action, check_transition
from statejobs.declare.compile_checks import (
    Declared,
    refuse_lonely,
    refuse_misfits,
    refuse_other_states,
    refuse_second_hooks,
)
from statejobs.declare.every_source import with_every_source
from statejobs.declare.hook import Hook
from statejobs.declare.names import (
    OURS,
    key_used_twice,
    refuse_override,
    refuse_shadows,
)
from statejobs.declare.state_column import DeclaredState
from statejobs.declare.storable import refuse_what_is_not_stored
from statejobs.declare.timeout_checks import refuse_timeouts
from statejobs.declare.transition import Transition
from statejobs.declare.trigger import Trigger
from statejobs.declare.unique_checks import refuse_waiting_records
from statejobs.errors import DefinitionError
from statejobs.record.home import Home
from statejobs.record.ledger import value_of
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger, StateSpec
from statejobs.values.graph import DELETED, Promise
from statejobs.values.options import RESOURCE_PLACE


def find_state_column(cls: type) -> tuple[str, StateSpec] | None:
    """Return the attribute that holds the state, declared on *cls* or inherited."""
    found: dict[str, StateSpec] = {}
    for base in reversed(cls.__mro__):
        if "__statejobs__" in vars(base):
            # mapped: its attributes are columns no longer
            model: ResourceModel = vars(base)["__statejobs__"]
            found[model.attribute] = model.state
        for name, value in vars(base).items():
            state = _declared_state(value)
            if state is not None:
                found[name] = state
    if len(found) > 1:
        raise DefinitionError(
            cls.__name__,
            f"has {len(found)} state columns: {', '.join(sorted(found))}",
            why="a resource is one machine",
            fix="make the second machine a resource of its own, related to this one",
        )
    return next(iter(found.items()), None)


def _declared_state(value: object) -> StateSpec | None:
    """Return what a column was told, bare or inside a `Field(sa_column=…)` of SQLModel."""
    inner = "column" if isinstance(value, MappedColumn) else "sa_column"
    kind = getattr(getattr(value, inner, None), "type", None)
    return kind.spec if isinstance(kind, DeclaredState) else None


def compile_resource(
    cls: type, attribute: str, state: StateSpec, *, name: str, home: Home
) -> ResourceModel:
    """Return *cls* as a checked model.

    Args:
        cls: The class.
        attribute: That holds the state.
        state: What it was told.
        name: Of the resource.
        home: Of the whole hierarchy.

    Raises:
        DefinitionError: The declarations cannot work.
    """
    found = _found(cls)
    declared = Declared(
        cls=cls,
        attribute=attribute,
        state=state,
        transitions=with_every_source(cls, state, found),
        triggers={k: v.spec for k, v in found.items() if isinstance(v, Trigger)},
        actions={k: v.spec for k, v in found.items() if isinstance(v, Action)},
        hooks={k: v.specs for k, v in found.items() if isinstance(v, Hook)},
    )
    refuse_misfits(declared)
    refuse_shadows(cls, attribute, found)
    refuse_other_states(declared)
    refuse_lonely(declared)
    refuse_second_hooks(declared)
    refuse_waiting_records(declared)
    model = ResourceModel(
        cls=cls,
        name=name,
        attribute=attribute,
        state=state,
        has_history=getattr(cls, "__history__", True),
        tenant=getattr(cls, "__tenant__", None),
        transitions=declared.transitions,
        triggers=_bind(declared, name, home),
        home=home,
    )
    for transition in declared.transitions.values():
        check_transition(cls, transition)
    for action in declared.actions.values():
        check_action(cls, action)
    refuse_timeouts(declared)
    refuse_what_is_not_stored(model)
    _ = model.kernel  # verifies the graph
    return model


def _found(cls: type) -> Mapping[str, Any]:
    """Return declarations by name, nearest definition first to win."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Transition | Trigger | Action | Hook):
                found[name] = value
            elif name in found and name not in OURS:
                refuse_override(cls, base, name, found[name])
    return found


def _bind(declared: Declared, resource: str, home: Home) -> dict[str, BoundTrigger]:
    bound: dict[str, BoundTrigger] = {}
    for name, trigger in declared.triggers.items():
        action = next(a for a in declared.actions.values() if a.trigger is trigger)
        key = _resolved(trigger.options.key, resource)
        aliases = tuple(_resolved(alias, resource) for alias in trigger.options.aliases)
        for taken in (key, *aliases):
            other = next(
                (b for b in bound.values() if taken in (b.key, *b.aliases)), None
            )
            if other is not None:
                where = declared.cls.__name__
                raise key_used_twice(taken, f"{where}.{other.name}", f"{where}.{name}")
        bound[key] = BoundTrigger(
            key=key,
            aliases=aliases,
            name=name,
            spec=trigger,
            action=action,
            hooks={hook.kind: hook for hook in declared.hooks_of(trigger)},
            sources=tuple(value_of(state) for state in action.source),
            targets=(DELETED,)
            if action.deletes
            else tuple(map(value_of, action.targets)),
            during=None if action.during is None else value_of(action.during),
            failed=None if action.failed is None else value_of(action.failed),
            home=home,
            runs={
                value_of(target): tuple(
                    Promise(_resolved(one.trigger.options.key, resource), one.delay)
                    for one in promises
                )
                for target, promises in action.promises.items()
            },
        )
    return bound


def _resolved(key: str, resource: str) -> str:
    """Return *key* with the resource's name in its place."""
    return key.replace(RESOURCE_PLACE, resource.lower())

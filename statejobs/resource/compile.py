"""Collects what a class declares and refuses what cannot work."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.orm import MappedColumn

from statejobs.errors import DefinitionError, did_you_mean
from statejobs.resource.action import Action
from statejobs.resource.action_checks import check_action, check_guard, check_transition
from statejobs.resource.columns import DeclaredState, StateDeclaration, check_member
from statejobs.resource.ledger import value_of
from statejobs.resource.model import BoundTrigger, ResourceModel, resolve_key
from statejobs.resource.names import OURS, key_used_twice, refuse_override, refuse_shadows
from statejobs.resource.transition import Transition
from statejobs.resource.trigger import Trigger
from statejobs.values.graph import DELETED


def find_state_column(cls: type) -> tuple[str, StateDeclaration] | None:
    """Return the attribute that holds the state, declared on *cls* or inherited."""
    found: dict[str, StateDeclaration] = {}
    for base in reversed(cls.__mro__):
        if "__statejobs__" in vars(base):  # mapped: its attributes are columns no longer
            model: ResourceModel = vars(base)["__statejobs__"]
            found[model.attribute] = model.declaration
        for name, value in vars(base).items():
            declared = _declared_state(value)
            if declared is not None:
                found[name] = declared
    if len(found) > 1:
        raise DefinitionError(
            cls.__name__,
            f"has {len(found)} state columns: {', '.join(sorted(found))}",
            why="a resource is one machine",
            fix="make the second machine a resource of its own, related to this one",
        )
    return next(iter(found.items()), None)


def _declared_state(value: object) -> StateDeclaration | None:
    """Return what a column was told, bare or inside a `Field(sa_column=…)` of SQLModel."""
    inner = "column" if isinstance(value, MappedColumn) else "sa_column"
    kind = getattr(getattr(value, inner, None), "type", None)
    return kind.declaration if isinstance(kind, DeclaredState) else None


def compile_resource(
    cls: type, attribute: str, declaration: StateDeclaration, *, name: str
) -> ResourceModel:
    """Return *cls* as a checked model.

    Raises:
        DefinitionError: The declarations cannot work.
    """
    declared = _declared(cls)
    _refuse_misfits(cls, attribute, declaration, declared)
    transitions = {k: v for k, v in declared.items() if isinstance(v, Transition)}
    triggers = {k: v for k, v in declared.items() if isinstance(v, Trigger)}
    actions = {k: v for k, v in declared.items() if isinstance(v, Action)}
    refuse_shadows(cls, attribute, declared)
    for label, states, members in _state_uses(cls, declaration, transitions, actions):
        for option, member in members:
            check_member(label, option, states, member)
    _refuse_lonely(cls, attribute, declaration, transitions, triggers, actions)
    model = ResourceModel(
        cls=cls,
        name=name,
        attribute=attribute,
        declaration=declaration,
        has_history=getattr(cls, "__history__", True),
        transitions=transitions,
        triggers=_bind(cls, name, triggers, actions),
    )
    for declared_transition in transitions.values():
        check_transition(cls, declared_transition)
    for action in actions.values():
        check_action(cls, action)
    _ = model.kernel  # verifies the graph
    return model


def _declared(cls: type) -> dict[str, Any]:
    """Return declarations by name, nearest definition first to win."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Transition | Trigger | Action):
                found[name] = value
            elif name in found and name not in OURS:
                refuse_override(cls, base, name, found[name])
    return found


def _refuse_misfits(
    cls: type, attribute: str, declaration: StateDeclaration, declared: Mapping[str, Any]
) -> None:
    """Refuse names where a trigger or a guard belongs."""
    uses = [(attribute, declaration.run_trigger)]
    uses += [(n, v.run_trigger) for n, v in declared.items() if isinstance(v, Transition)]
    for name, run in uses:
        if isinstance(run, list | tuple | set | frozenset | dict):
            raise DefinitionError(
                f"{cls.__name__}.{name}",
                "its run_trigger is several triggers",
                why="a move runs one trigger",
                fix="name one, and enqueue the action of the other where the move is fired, "
                f"in the same session: {cls.__name__}.other_action.enqueue(session, record)",
            )
        if run is not None and not isinstance(run, Trigger):
            raise DefinitionError(
                f"{cls.__name__}.{name}",
                f"its run_trigger {run!r} is a {type(run).__name__}, not a trigger",
                why="a name would be looked up only when the transition fires",
                fix=_trigger_meant(run, declared),
            )
    for name, value in declared.items():
        for guard in getattr(value, "guards", ()):
            if not callable(guard):
                raise DefinitionError(
                    f"{cls.__name__}.{name}",
                    f"its guard {guard!r} is a {type(guard).__name__}, which cannot be called",
                    why="a guard is asked with the record, and answers yes or no",
                    fix=f"give the function itself, declared above: guard={_name_of(guard)}",
                )
            check_guard(f"{cls.__name__}.{name}", guard)


def _trigger_meant(run: object, declared: Mapping[str, Any]) -> str:
    """Return what to write in place of *run*: a trigger of the class, and which one."""
    names = [name for name, value in declared.items() if isinstance(value, Trigger)]
    if isinstance(run, Action):
        names = [name for name in names if declared[name] is run.trigger] or names
    if isinstance(run, str) and run in names:
        names = [run]
    if not names:
        return "declare one above: charge = Trigger.on_demand('order.charge')"
    hint = f"; {did_you_mean(run, names)}" if isinstance(run, str) and len(names) > 1 else ""
    said = " or ".join(f"run_trigger={name}" for name in names)
    return f"give the trigger itself, declared above: {said}{hint}"


def _name_of(guard: object) -> str:
    return guard if isinstance(guard, str) and guard.isidentifier() else "has_amount"


def _state_uses(
    cls: type,
    declaration: StateDeclaration,
    transitions: Mapping[str, Transition[Any, Any, Any]],
    actions: Mapping[str, Action[Any, Any, Any, Any]],
) -> Iterator[tuple[str, type[enum.Enum], list[tuple[str, object]]]]:
    states = declaration.states
    for declared in transitions.values():
        uses: list[tuple[str, object]] = [("source", s) for s in declared.source]
        yield f"{cls.__name__}.{declared.name}", states, [*uses, ("target", declared.target)]
    for action in actions.values():
        uses = [("source", s) for s in action.source]
        uses += [
            (option, member)
            for option, member in (
                ("target", action.target),
                ("during", action.during),
                ("failed", action.failed),
            )
            if member is not None
        ]
        yield f"{cls.__name__}.{action.name}", states, uses


def _refuse_lonely(  # noqa: PLR0917
    cls: type,
    attribute: str,
    declaration: StateDeclaration,
    transitions: Mapping[str, Transition[Any, Any, Any]],
    triggers: Mapping[str, Trigger],
    actions: Mapping[str, Action[Any, Any, Any, Any]],
) -> None:
    known = set(triggers.values())
    for name, trigger in triggers.items():
        performing = [n for n, action in actions.items() if action.trigger is trigger]
        if len(performing) > 1:
            raise DefinitionError(
                f"{cls.__name__}.{name}",
                f"trigger {trigger.options.key!r} has several actions: {', '.join(performing)}",
                why="a job runs one action",
                fix="declare a trigger for each action",
            )
        if not performing:
            raise DefinitionError(
                f"{cls.__name__}.{name}",
                f"trigger {trigger.options.key!r} has no action",
                why="its jobs would have nothing to run",
                fix=f"decorate a method with @{name}.action(source, target)",
            )
    for name, action in actions.items():
        if action.trigger not in known:
            raise DefinitionError(
                f"{cls.__name__}.{name}",
                f"its trigger {action.trigger.options.key!r} is not an attribute of {cls.__name__}",
                why="an action without its trigger would never run",
                fix="declare the trigger in the same class (or mixin), above the action",
            )
    uses = [(t.name, t.run_trigger) for t in transitions.values()]
    for name, run in [*uses, (attribute, declaration.run_trigger)]:
        if run is not None and run not in known:
            raise DefinitionError(
                f"{cls.__name__}.{name}",
                f"its run_trigger {run.options.key!r} is not an attribute of {cls.__name__}",
                why="a job runs on the record whose transition enqueued it",
                fix="declare the trigger in this class; to start work on another record, "
                "fire a transition of that record",
            )


def _bind(
    cls: type,
    resource: str,
    triggers: Mapping[str, Trigger],
    actions: Mapping[str, Action[Any, Any, Any, Any]],
) -> dict[str, BoundTrigger]:
    bound: dict[str, BoundTrigger] = {}
    for name, trigger in triggers.items():
        action = next(a for a in actions.values() if a.trigger is trigger)
        key = resolve_key(trigger.options.key, resource)
        aliases = tuple(resolve_key(alias, resource) for alias in trigger.options.aliases)
        for taken in (key, *aliases):
            other = next((b for b in bound.values() if taken in (b.key, *b.aliases)), None)
            if other is not None:
                raise key_used_twice(taken, f"{cls.__name__}.{other.trigger.name}",
                                     f"{cls.__name__}.{name}")  # fmt: skip
        bound[key] = BoundTrigger(
            key=key,
            aliases=aliases,
            trigger=trigger,
            action=action,
            sources=tuple(value_of(state) for state in action.source),
            target=DELETED if action.target is None else value_of(action.target),
            during=None if action.during is None else value_of(action.during),
            failed=None if action.failed is None else value_of(action.failed),
        )
    return bound

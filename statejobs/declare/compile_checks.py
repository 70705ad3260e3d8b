"""What the declarations of a class, each of which is right alone, cannot be together."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as short

from statejobs.declare.action import Action
from statejobs.declare.function_checks import (
    refuse_other_change,
    refuse_other_guard,
    refuse_other_permission,
)
from statejobs.declare.state_column import check_member
from statejobs.errors import DefinitionError, did_you_mean
from statejobs.record.change import Change
from statejobs.record.specs import (
    ActionSpec,
    GuardFunction,
    HookSpec,
    PermissionFunction,
    PromiseSpec,
    StateSpec,
    TransitionSpec,
    TriggerSpec,
)
from statejobs.values.article import indefinite


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What was written on a class and its bases, by attribute."""

    cls: type
    attribute: str
    """Of the state column."""
    state: StateSpec
    transitions: Mapping[str, TransitionSpec]
    triggers: Mapping[str, TriggerSpec]
    actions: Mapping[str, ActionSpec]
    hooks: Mapping[str, tuple[HookSpec, ...]]
    """A method may be a hook of several triggers."""

    def where(self, name: str) -> str:
        """Return how messages call an attribute."""
        return f"{self.cls.__name__}.{name}"

    def runs(self) -> Iterator[tuple[str, TriggerSpec]]:
        """Yield each trigger that is run, and by what: creation, a transition, or an action."""
        yield from _runs(self.attribute, self.state.promises)
        for name, transition in self.transitions.items():
            yield from _runs(name, transition.promises)
        for name, action in self.actions.items():
            for promises in action.promises.values():
                yield from _runs(name, promises)

    def guards(self) -> Iterator[tuple[str, GuardFunction]]:
        """Yield each guard, and whose it is."""
        for name, transition in self.transitions.items():
            yield from ((name, guard) for guard in transition.guards)
        for name, action in self.actions.items():
            yield from ((name, guard) for guard in action.guards)

    def permissions(self) -> Iterator[tuple[str, PermissionFunction]]:
        """Yield each permission, and whose it is."""
        for name, transition in self.transitions.items():
            yield from ((name, permission) for permission in transition.allow)

    def changes(self) -> Iterator[tuple[str, Change]]:
        """Yield each change, and whose it is."""
        for name, transition in self.transitions.items():
            yield from ((name, change) for change in transition.changes)
        for name, action in self.actions.items():
            yield from ((name, change) for change in action.changes)

    def has(self, trigger: TriggerSpec) -> bool:
        """Return whether *trigger* is an attribute of the class."""
        return trigger in self.triggers.values()

    def hooks_of(self, trigger: TriggerSpec) -> Iterator[HookSpec]:
        """Yield the hooks of *trigger*."""
        for specs in self.hooks.values():
            yield from (spec for spec in specs if spec.trigger is trigger)


def refuse_misfits(declared: Declared) -> None:
    """Refuse names where a trigger, a guard or a permission belongs.

    Raises:
        DefinitionError: As said.
    """
    for name, run in declared.runs():
        _refuse_other_trigger(declared, name, run)
    for name, guard in declared.guards():
        refuse_other_guard(declared.where(name), guard)
    for name, permission in declared.permissions():
        refuse_other_permission(declared.where(name), permission)
    for name, change in declared.changes():
        refuse_other_change(declared.where(name), change)


def refuse_other_states(declared: Declared) -> None:
    """Refuse states of another enum.

    Raises:
        DefinitionError: With the closest state of the right one.
    """
    for name, option, member in _state_uses(declared):
        check_member(declared.where(name), option, declared.state.states, member)


def refuse_lonely(declared: Declared) -> None:
    """Refuse a trigger without its one action, and whatever may not have its trigger.

    Raises:
        DefinitionError: As said.
    """
    for name, trigger in declared.triggers.items():
        _refuse_other_than_one_action(declared, name, trigger)
    for name, action in declared.actions.items():
        _refuse_stranger(declared, name, action.trigger, what="an action")
    for name, run in declared.runs():
        _refuse_strange_run(declared, name, run)
        _refuse_scheduled_run(declared, name, run)
    for name, specs in declared.hooks.items():
        for spec in specs:
            _refuse_stranger(declared, name, spec.trigger, what="a hook")


def refuse_second_hooks(declared: Declared) -> None:
    """Refuse two methods that are told the same of one trigger.

    Raises:
        DefinitionError: As said.
    """
    names: dict[tuple[TriggerSpec, str], str] = {}
    for name, specs in declared.hooks.items():
        for spec in specs:
            other = names.setdefault((spec.trigger, spec.kind), name)
            if other != name:
                raise DefinitionError(
                    declared.where(name),
                    f"trigger {spec.trigger.options.key!r} has two @{spec.kind} methods: "
                    f"{other}, {name}",
                    why="only one could run",
                    fix="call both from one method; one that overrides another has its name",
                )


def _runs(
    name: str, promises: Sequence[PromiseSpec]
) -> Iterator[tuple[str, TriggerSpec]]:
    return ((name, promise.trigger) for promise in promises)


def _refuse_other_trigger(declared: Declared, name: str, run: object) -> None:
    if isinstance(run, set | frozenset):
        raise DefinitionError(
            declared.where(name),
            "its run_trigger is a set",
            why="the graph names triggers in their order, and a set has none",
            fix="give a list: run_trigger=[charge, notify]",
        )
    if isinstance(run, Mapping):
        raise DefinitionError(
            declared.where(name),
            "its run_trigger is a mapping",
            why="only an action with several targets runs triggers by target",
            fix="give the trigger, or a list: run_trigger=[charge, notify]",
        )
    if not isinstance(run, TriggerSpec):
        raise DefinitionError(
            declared.where(name),
            f"its run_trigger {short(run)} is {indefinite(type(run).__name__)}, not a trigger",
            why="a name would be looked up only when the transition fires",
            fix=_trigger_meant(declared, run),
        )


def _trigger_meant(declared: Declared, run: object) -> str:
    """Return what to write in place of *run*: a trigger of the class, and which one."""
    names = list(declared.triggers)
    if isinstance(run, Action):
        names = [n for n in names if declared.triggers[n] is run.spec.trigger] or names
    if isinstance(run, str) and run in names:
        names = [run]
    if not names:
        return "declare one above: charge = Trigger.on_demand('order.charge')"
    hint = (
        f"; {did_you_mean(run, names)}"
        if isinstance(run, str) and len(names) > 1
        else ""
    )
    said = " or ".join(f"run_trigger={name}" for name in names)
    return f"give the trigger itself, declared above: {said}{hint}"


def _state_uses(declared: Declared) -> Iterator[tuple[str, str, enum.Enum]]:
    """Yield where a state is named: of what, as which option, and the state."""
    for transition in declared.transitions.values():
        for state in transition.source:
            yield transition.name, "source", state
        yield transition.name, "target", transition.target
    for action in declared.actions.values():
        for state in action.source:
            yield action.name, "source", state
        for state in action.targets:
            yield action.name, "target", state
        others = {
            "during": action.during,
            "failed": action.failed,
        }
        for option, member in others.items():
            if member is not None:
                yield action.name, option, member


def _refuse_other_than_one_action(
    declared: Declared, name: str, trigger: TriggerSpec
) -> None:
    performing = [
        n for n, action in declared.actions.items() if action.trigger is trigger
    ]
    if len(performing) > 1:
        raise DefinitionError(
            declared.where(name),
            f"trigger {trigger.options.key!r} has several actions: {', '.join(performing)}",
            why="a job runs one action",
            fix="declare a trigger for each action",
        )
    if not performing:
        raise DefinitionError(
            declared.where(name),
            f"trigger {trigger.options.key!r} has no action",
            why="its jobs would have nothing to run",
            fix=f"decorate a method with @{name}.action(source, target)",
        )


def _refuse_stranger(
    declared: Declared, name: str, trigger: TriggerSpec, *, what: str
) -> None:
    if declared.has(trigger):
        return
    raise DefinitionError(
        declared.where(name),
        f"its trigger {trigger.options.key!r} is not an attribute of {declared.cls.__name__}",
        why=f"{what} without its trigger would never run",
        fix=f"declare the trigger in the same class (or mixin), above the {what.split()[1]}",
    )


def _refuse_scheduled_run(declared: Declared, name: str, run: TriggerSpec) -> None:
    if run.schedule is None or run.schedule.is_hybrid:
        return
    raise DefinitionError(
        declared.where(name),
        f"its run_trigger {run.options.key!r} is scheduled only",
        why="its jobs are made by ticks, of the records for which its where= holds",
        fix="declare it with Trigger.hybrid, which takes both",
    )


def _refuse_strange_run(declared: Declared, name: str, run: TriggerSpec) -> None:
    if declared.has(run):
        return
    raise DefinitionError(
        declared.where(name),
        f"its run_trigger {run.options.key!r} is not an attribute of {declared.cls.__name__}",
        why="a job runs on the record whose transition enqueued it",
        fix="declare the trigger in this class; to start work on another record, "
        "fire a transition of that record",
    )

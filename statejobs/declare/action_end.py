"""Where an action leads, as it was written: to a target, one of several, no record, nowhere."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from typing import Any

from statejobs.declare.names import as_tuple
from statejobs.declare.run_trigger import RunTrigger, promises_of
from statejobs.errors import DefinitionError
from statejobs.record.ledger import value_of
from statejobs.record.specs import PromiseSpec

NextTrigger = RunTrigger | Mapping[Any, RunTrigger]
"""What an action runs where it lands: the same at each target, or by target."""


def end_of(
    where: str,
    target: enum.Enum | Collection[enum.Enum] | None,
    *,
    deletes: bool,
    run_trigger: NextTrigger | None,
    during: enum.Enum | None,
    failed: enum.Enum | None,
) -> dict[str, Any]:
    """Return how an action ends, as its spec has it.

    Raises:
        DefinitionError: It has two ends, runs something where it does not lead, or moves a record
            that stays where it is.
    """
    targets = as_tuple(target)
    if deletes:
        _refuse_with_deletion(where, targets, run_trigger)
    elif target is None:
        _refuse_moves(where, during=during, failed=failed, run_trigger=run_trigger)
    elif not targets:
        raise DefinitionError(
            where,
            "its targets are none",
            why="of several the method returns one",
            fix="name the states: action(source, (S.CLEAN, S.INFECTED)); or leave the target out, "
            "so that the record stays where it is",
        )
    return {
        "targets": targets,
        "deletes": bool(deletes),
        "during": during,
        "failed": failed,
        "promises": _promises(where, targets, run_trigger),
    }


def _refuse_moves(where: str, **options: object) -> None:
    """Refuse what moves a record, or follows its move, where the action leaves it."""
    for option, value in options.items():
        if value:
            raise DefinitionError(
                where,
                f"it has {option}=, and no target",
                why="without a target the record stays where it is, so nothing moves it",
                fix=f"name the state: action(source, target, {option}=…); or leave {option}= out",
            )


def _refuse_with_deletion(
    where: str, targets: tuple[enum.Enum, ...], run_trigger: NextTrigger | None
) -> None:
    if targets:
        listed = " or ".join(repr(value_of(target)) for target in targets)
        raise DefinitionError(
            where,
            f"it has the target {listed}, and deletes its record",
            why="a record that is gone rests nowhere",
            fix="leave out the target, or deletes=True",
        )
    if run_trigger:
        raise DefinitionError(
            where,
            "it has a run_trigger, and deletes its record",
            why="a job runs on a record, and this one is gone",
            fix="leave out run_trigger; work without a record is a task, which the method "
            "enqueues through ctx.session",
        )


def _promises(
    where: str, targets: tuple[enum.Enum, ...], run_trigger: NextTrigger | None
) -> dict[enum.Enum, tuple[PromiseSpec, ...]]:
    if not isinstance(run_trigger, Mapping):
        everywhere = promises_of(run_trigger)
        return dict.fromkeys(targets, everywhere) if everywhere else {}
    for state in run_trigger:
        if state not in targets:
            listed = ", ".join(repr(value_of(target)) for target in targets)
            raise DefinitionError(
                where,
                f"its run_trigger names {value_of(state)!r}, to which it does not lead",
                why="what follows is enqueued where the record lands",
                fix=f"name one of its targets: {listed}",
            )
    return {state: promises_of(runs) for state, runs in run_trigger.items()}

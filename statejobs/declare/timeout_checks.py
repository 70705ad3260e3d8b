"""Refuses timeouts of states that could not fire, or would fire where nobody means it."""

from __future__ import annotations

import enum
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from statejobs.declare.compile_checks import Declared
from statejobs.declare.every_source import is_every
from statejobs.errors import ArgumentsError, DefinitionError
from statejobs.record.specs import TransitionSpec
from statejobs.values.backoff import LONGEST
from statejobs.values.kinds import check_span

_NOBODY = "a worker fires it, and nobody else is there to say more"


def checked_after(
    where: str, after: Any, *, source: Collection[Any], target: enum.Enum
) -> timedelta | None:
    """Return how long a record stays in a source; what is longer than any wait is cut.

    Raises:
        DefinitionError: Each record would move at once, or again and again, or unseen.
        WrongValueError: It is no `timedelta`.
    """
    check_span(f"{where}: after", after, or_none=True)
    if after is None:
        return None
    if after <= timedelta():
        raise DefinitionError(
            where,
            f"after={after}",
            why="no record would rest in a source of it",
            fix="give a positive timedelta, or leave it out; what follows at once is a "
            "run_trigger",
        )
    if any(map(is_every, source)):
        raise DefinitionError(
            where,
            'after= with source="*"',
            why="a state that somebody adds later would time out unseen",
            fix="name the states that time out",
        )
    if target in source:
        raise DefinitionError(
            where,
            "after= of a transition that ends where it starts",
            why="such a move keeps state_changed_at, so it would fire at each sweep",
            fix=f"take {target.value!r} out of its sources; what repeats is a schedule",
        )
    kept: timedelta = min(after, LONGEST)
    return kept


def refuse_timeouts(declared: Declared) -> None:
    """Refuse a timeout of a state in which a job runs, and a body that nobody could call.

    Raises:
        DefinitionError: As said.
    """
    for transition in declared.transitions.values():
        if transition.after is not None:
            where = declared.where(transition.name)
            _refuse_final(declared, where, transition)
            _refuse_during(declared, where, transition)
            _refuse_async(where, transition)
            _refuse_parameters(where, transition)


def _refuse_final(declared: Declared, where: str, transition: TransitionSpec) -> None:
    for state in transition.source:
        if state in declared.state.final:
            raise DefinitionError(
                where,
                f"after= from {state.value!r}, which is final",
                why="a record rests for good in a final state",
                fix=f"take {state.value!r} out of its sources, or out of final=",
            )


def _refuse_during(declared: Declared, where: str, transition: TransitionSpec) -> None:
    for name, action in declared.actions.items():
        if action.during is not None and action.during in transition.source:
            raise DefinitionError(
                where,
                f"after= from {action.during.value!r}, where {name!r} runs",
                why="it would take the record from a job that works on it",
                fix="say how long an attempt may take: timeout= of trigger "
                f"{action.trigger.options.key!r}",
            )


def _refuse_async(where: str, transition: TransitionSpec) -> None:
    if transition.is_async:
        raise DefinitionError(
            where,
            "after= of an `async def`",
            why="a worker fires it in a thread, where no loop runs",
            fix="make it a `def`, and let an action do what waits: run_trigger=",
        )


def _refuse_parameters(where: str, transition: TransitionSpec) -> None:
    try:
        transition.signature.bind((), {})
    except ArgumentsError as error:
        raise DefinitionError(
            where,
            f"after= of a body that requires {error.parameter!r}",
            why=_NOBODY,
            fix="give the parameter a default",
        ) from error

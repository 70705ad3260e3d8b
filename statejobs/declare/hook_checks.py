"""Refuses a hook that could not be called, of a trigger or of a task, in one way."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.orm import Session

from statejobs.declare.annotations import accepts, meaning, shown
from statejobs.errors import DefinitionError
from statejobs.values.article import indefinite
from statejobs.values.call_checks import check_call, check_plain
from statejobs.values.outcome import HookKind

_PASSED: dict[str, type] = {"session": Session, "reason": str}
"""What every hook is passed, in this order."""


def refuse_second_hook(where: str, hook: object) -> None:
    """Refuse a hook of a task beside *hook*, when there is one.

    Raises:
        DefinitionError: There is one.
    """
    if hook is None:
        return
    raise DefinitionError(
        where,
        f"it has two @{HookKind.DISCARD} functions",
        why="only one could run",
        fix="call both from one function",
    )


def check_method_hook(where: str, kind: HookKind, hook: Any) -> None:
    """Refuse what is no method `(self, session, reason)`.

    Raises:
        DefinitionError: As said.
    """
    form = f"def {_name(hook)}(self, session: Session, reason: str) -> None"
    why = "it is passed its record, the session and the reason"
    what = _what(kind, hook)
    check_call(where, what, hook, given=3, why=why, fix=form)
    _check_passed(where, what, hook, after=1, form=form)


def check_function_hook(
    where: str, hook: Any, names: Sequence[str], required: Sequence[str]
) -> None:
    """Refuse what is no function of session, reason, and the arguments of a job.

    Args:
        where: The task.
        hook: Anything at all.
        names: All arguments of its jobs.
        required: Those that every job has.

    Raises:
        DefinitionError: As said.
    """
    why = "it is passed the session, the reason, and the arguments of the job by name"
    listed = ", ".join([*_PASSED, *names])
    form = f"def {_name(hook)}({listed}), with the defaults of the task"
    what = _what(HookKind.DISCARD, hook)
    check_plain(where, what, hook, why=why, fix=form)
    signature = inspect.signature(hook)
    for given in (names, required):
        try:
            signature.bind(None, None, **dict.fromkeys(given))
        except TypeError as error:
            problem = f"{what} cannot be called: {error}"
            raise DefinitionError(where, problem, why=why, fix=form) from None
    _check_passed(where, what, hook, after=0, form=form)


def _check_passed(
    where: str, what: str, hook: Callable[..., Any], *, after: int, form: str
) -> None:
    """Refuse parameters that name or annotate something else than what is passed there."""
    places = [
        p for p in inspect.signature(hook).parameters.values() if _is_positional(p)
    ]
    for parameter, (wanted, kind) in zip(places[after:], _PASSED.items(), strict=False):
        annotation = meaning(hook, parameter)
        problem = None
        if parameter.name in _PASSED and parameter.name != wanted:
            problem = f"takes {parameter.name!r} in the place of the {wanted}"
        elif not accepts(annotation, kind):
            problem = (
                f"takes {indefinite(shown(annotation))} for the {wanted}, "
                f"which is {indefinite(kind.__name__)}"
            )
        if problem is not None:
            raise DefinitionError(
                where,
                f"{what} {problem}",
                why="the session and the reason are passed by position, in this order",
                fix=form,
            )


def _is_positional(parameter: inspect.Parameter) -> bool:
    return parameter.kind in {
        parameter.POSITIONAL_ONLY,
        parameter.POSITIONAL_OR_KEYWORD,
    }


def _what(kind: HookKind, hook: object) -> str:
    return f"its @{kind}, {_name(hook)!r},"


def _name(hook: object) -> str:
    return getattr(hook, "__name__", type(hook).__name__)

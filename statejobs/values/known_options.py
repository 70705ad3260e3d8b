"""Options of declarations: unknown ones are errors that name the closest known one."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, cast

from statejobs.errors import DefinitionError, WrongValueError, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])
_DIALECTS = ("sqlite_", "postgresql_")


def explain_options(
    *,
    passed_on: Callable[..., Any] | None = None,
    refusal: type[DefinitionError | WrongValueError] = DefinitionError,
    called: str | None = None,
) -> Callable[[F], F]:
    """Turn a call with an unknown option into a *refusal*.

    Args:
        passed_on: A function that takes further options, among them those of a database, such as
            `sqlite_…`.
        refusal: What is raised.
        called: How people call it. Default: its qualified name.
    """

    def explained(function: F) -> F:
        known = _options_of(function) | (_options_of(passed_on) if passed_on else set())
        taken = set(inspect.signature(function).parameters) | known

        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            for option in kwargs:
                if option not in taken and not (
                    passed_on and option.startswith(_DIALECTS)
                ):
                    caller = sys._getframe(1)  # noqa: SLF001 - where the declaration stands
                    name = called or function.__qualname__.removesuffix(".__init__")
                    raise _unknown(name, option, known, caller, refusal)
            return function(*args, **kwargs)

        return cast("F", checked)

    return explained


def _options_of(function: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def _unknown(
    name: str,
    option: str,
    known: set[str],
    frame: FrameType,
    refusal: type[DefinitionError | WrongValueError],
) -> DefinitionError | WrongValueError:
    place = f"{Path(frame.f_code.co_filename).name}, line {frame.f_lineno}"
    where = f"{name}() in {place}"
    what = f"unknown option {option!r}"
    why = "an option that is silently ignored would not do what it says"
    fix = did_you_mean(option, known)
    if issubclass(refusal, DefinitionError):
        return refusal(where, what, why=why, fix=fix)
    return refusal(what, where=where, why=why, fix=fix)

"""Options of declarations: unknown ones are errors that name the closest known one."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, cast

from statejobs.errors import DefinitionError, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])
_DIALECTS = ("sqlite_", "postgresql_")


def explain_options(*, passed_on: Callable[..., Any] | None = None) -> Callable[[F], F]:
    """Turn a call with an unknown option into a `DefinitionError`.

    Args:
        passed_on: A function that takes further options, among them those of a database, such as
            `sqlite_…`.
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
                    raise _unknown(function.__qualname__, option, known, caller)
            return function(*args, **kwargs)

        return cast("F", checked)

    return explained


def _options_of(function: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def _unknown(
    name: str, option: str, known: set[str], frame: FrameType
) -> DefinitionError:
    called = name.removesuffix(".__init__")
    return DefinitionError(
        f"{called}() in {Path(frame.f_code.co_filename).name}, line {frame.f_lineno}",
        f"unknown option {option!r}",
        why="an option that is silently ignored would not do what it says",
        fix=did_you_mean(option, known),
    )

"""Unknown options are errors that name the closest known one."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from statejobs.errors import DefinitionError, did_you_mean

P = ParamSpec("P")
T = TypeVar("T")


def explain_options(function: Callable[P, T]) -> Callable[P, T]:
    """Turn a call of *function* with an unknown option into a `DefinitionError`."""
    signature = inspect.signature(function)
    known = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        for option in kwargs:
            if option not in signature.parameters:
                frame = sys._getframe(1)  # noqa: SLF001 - where the declaration stands
                place = f"{Path(frame.f_code.co_filename).name}, line {frame.f_lineno}"
                raise DefinitionError(
                    f"{function.__qualname__}() in {place}",
                    f"unknown option {option!r}",
                    why="an option that is silently ignored would not do what it says",
                    fix=did_you_mean(option, known),
                )
        return function(*args, **kwargs)

    return checked

"""A condition on a record, with the sentence that people read when it does not hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import getdoc, iscoroutinefunction, isroutine
from typing import Any

from statejobs.errors import DefinitionError

Check = Callable[[Any], object]
"""Takes the subject; any true value lets it pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A condition on the subject, and what to tell people when it does not hold."""

    name: str
    check: Check
    reason: str

    @classmethod
    def of(cls, function: Check) -> Guard:
        """Make a guard whose reason is the first line of the function's docstring.

        Raises:
            DefinitionError: The function is async.
        """
        plain: Any = function
        while isinstance(plain, partial):
            plain = plain.func
        name = getattr(plain, "__name__", type(plain).__name__)
        _refuse_async(name, plain)
        doc = getdoc(plain) if isroutine(plain) else None
        reason = doc.splitlines()[0] if doc else f"guard {name!r} says no."
        return cls(name=name, check=function, reason=reason)


def _refuse_async(name: str, function: Check) -> None:
    if iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__):
        raise DefinitionError(
            f"guard {name!r}",
            "it is async",
            why="a transition asks its guards at once, and a coroutine counts as yes",
            fix="make it a plain function that reads only the record",
        )

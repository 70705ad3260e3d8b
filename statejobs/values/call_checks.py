"""Whether a function of the user's can be called as it will be, told before anybody calls it."""

from __future__ import annotations

import inspect

from statejobs.errors import DefinitionError
from statejobs.values.article import indefinite


def check_call(
    where: str, what: str, function: object, *, given: int, why: str, fix: str
) -> None:
    """Refuse a *function* that is no plain function of so many arguments.

    Args:
        where: What declares it.
        what: What it is there.
        function: Anything at all.
        given: With how many arguments it is called, by position.
        why: Told of one that takes something else.
        fix: How to write it.

    Raises:
        DefinitionError: As `check_plain`, or it takes something else.
    """
    check_plain(where, what, function, why=why, fix=fix)
    problem = misfit(function, given)
    if problem is not None:
        raise DefinitionError(
            where, f"{what} cannot be called: {problem}", why=why, fix=fix
        )


def check_plain(where: str, what: str, function: object, *, why: str, fix: str) -> None:
    """Refuse a *function* whose body a plain call does not run.

    Raises:
        DefinitionError: It cannot be called, is async, or is a generator.
    """
    if not callable(function):
        problem = (
            f"{what} is {indefinite(type(function).__name__)}, which cannot be called"
        )
        raise DefinitionError(where, problem, why=why, fix=fix)
    if is_async(function):
        raise DefinitionError(
            where,
            f"{what} is async",
            why="it is called without `await`, so its body would never run",
            fix="make it a `def`",
        )
    if is_generator(function):
        raise DefinitionError(
            where,
            f"{what} is a generator",
            why="calling it only makes a generator; its body would never run",
            fix="leave `yield` out",
        )


def misfit(function: object, given: int) -> str | None:
    """Return why *function* does not take *given* arguments by position; None when it does."""
    try:
        signature = inspect.signature(function)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # builtins do not always tell
        return None
    try:
        signature.bind(*[None] * given)
    except TypeError as error:
        return str(error)
    return None


def is_async(function: object) -> bool:
    """Return whether a call of *function*, or of an object like it, makes a coroutine."""
    function = _inside(function)
    called = getattr(type(function), "__call__", None)  # noqa: B004 - the function itself
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def is_generator(function: object) -> bool:
    """Return whether a call of *function* would run nothing of it."""
    function = _inside(function)
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _inside(function: object) -> object:
    """Return what a static or class method stands for; a decorator's `__wrapped__` may be run."""
    while isinstance(function, staticmethod | classmethod):
        function = function.__func__
    return function

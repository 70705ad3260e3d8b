"""A function of the user's that returns what would still have to be run, and that nobody runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Coroutine, Generator
from contextlib import (
    _AsyncGeneratorContextManager,
    _GeneratorContextManager,
)
from typing import TypeVar

from statejobs.errors import StateJobsError

T = TypeVar("T")

_NAMES: dict[type, str] = {
    Coroutine: "a coroutine",
    Awaitable: "an awaitable",
    Generator: "a generator",
    AsyncGenerator: "an asynchronous generator",
    _GeneratorContextManager: "a context manager made of a generator",
    _AsyncGeneratorContextManager: "a context manager made of an asynchronous generator",
}
_KINDS = tuple(_NAMES)


def ran(returned: T, kind: str, name: str) -> T:
    """Return what a call of the user's function *returned*, unless its body has yet to run.

    A decorator, a lambda or a wrapper may hide that a function is async or a generator. Such a
    result is true whatever the body would say, and nothing of the body has happened.

    Args:
        returned: By the call.
        kind: What the function is there, such as `guard`.
        name: Of the function.

    Raises:
        StateJobsError: It is a coroutine, an awaitable, a generator, or a context manager of one.
    """
    if returned is None or returned is True or returned is False:
        return returned
    if isinstance(returned, _KINDS):
        raise _not_run(returned, kind, name)
    return returned


def _not_run(returned: object, kind: str, name: str) -> StateJobsError:
    what = next(said for known, said in _NAMES.items() if isinstance(returned, known))
    unrun = getattr(returned, "gen", returned)  # of a context manager
    if isinstance(unrun, Coroutine | Generator):
        unrun.close()  # else Python warns that nobody awaited it
    return StateJobsError(
        f"{kind} {name!r} returned {what}, which was not run",
        why="nobody waits for it here",
        fix="Let a decorator of an `async def` be one as well, and leave `yield` out",
    )

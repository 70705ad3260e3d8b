"""Forms for asyncio of what waits for the database: the same call, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")

IS_ASIDE = ContextVar("statejobs_is_aside", default=False)
"""Whether a form for asyncio has called what runs now, in a thread beside the caller's."""


class Awaited(Generic[S, P, R]):
    """The form for asyncio of a method: it takes, returns and raises the same.

    It runs in a thread of the loop's, in a copy of the caller's context. Once it runs it goes on to
    its end, also when whoever awaits it is cancelled.
    """

    def __init__(self, method: Callable[Concatenate[S, P], R]) -> None:
        self._name = method.__name__
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, instance: None, owner: type[S]) -> Self: ...

    @overload
    def __get__(
        self, instance: S, owner: type[S] | None = None
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...

    def __get__(
        self, instance: S | None, owner: type[S] | None = None
    ) -> Self | Callable[P, Coroutine[Any, Any, R]]:
        if instance is None:
            return self
        # a subclass may have its own
        method: Callable[P, R] = getattr(instance, self._name)

        @wraps(method)
        async def form(*args: P.args, **kwargs: P.kwargs) -> R:
            return await asyncio.to_thread(_call, method, *args, **kwargs)

        form.__name__ = f"{self._name}_async"
        return form


def _call(method: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    IS_ASIDE.set(True)  # in the copy of the caller's context
    try:
        return method(*args, **kwargs)
    except (
        StopIteration
    ) as error:  # no future carries it: whoever awaits would wait for ever
        raise RuntimeError(f"{method.__name__} raised StopIteration") from error

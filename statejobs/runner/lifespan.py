"""Enters what the app keeps open in each worker, on its loop, and leaves it in the same task."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
)
from typing import Any

from statejobs.errors import WrongValueError
from statejobs.runner.executors import LoopThread
from statejobs.values.article import indefinite
from statejobs.values.call_checks import is_async, is_generator, misfit
from statejobs.values.opened import NOTHING, Opened

log = logging.getLogger("statejobs.worker")

OpenLifespan = Callable[
    [], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]
]
_ENDS_WITHIN = 4.0  # seconds; less than a process has beyond the grace of its jobs
_EXAMPLE = "@asynccontextmanager above `async def open_client(): …; yield client`"


def check_lifespan(given: object) -> None:
    """Refuse what makes no context manager when it is called.

    Raises:
        WrongValueError: It cannot be called so, or it is one already.
    """
    problem = None if given is None else _problem(given)
    if problem is not None:
        raise WrongValueError(f"StateJobs: worker_lifespan= {problem}", fix=_fix(given))


class Lifespan:
    """What one worker, or one drain, keeps open meanwhile."""

    def __init__(self, make: OpenLifespan | None) -> None:
        self.opened = Opened()
        self._make = make
        self._held: Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_over: asyncio.Event | None = None

    def enter(self, loop_thread: LoopThread) -> None:
        """Open it on the loop, and wait until it is.

        Raises:
            BaseException: As it raised.
        """
        if self._make is None or self._held is not None:
            return
        entered: Future[Any] = Future()
        self._held = loop_thread.submit(self._hold(self._make, entered))
        self._loop = loop_thread.loop
        try:
            self.opened.value = entered.result()
        except BaseException:
            self._held = None
            raise

    def leave(self) -> None:
        """Close it, and wait for that a few seconds; what it raises is logged."""
        if self._held is None or self._loop is None or self._is_over is None:
            return
        self.opened.value = NOTHING
        self._loop.call_soon_threadsafe(self._is_over.set)
        try:
            self._held.result(timeout=_ENDS_WITHIN)
        except TimeoutError:
            log.warning("worker_lifespan did not end within %g s", _ENDS_WITHIN)
        self._held = None

    async def _hold(self, make: OpenLifespan, entered: Future[Any]) -> None:
        """Enter and leave in one task, as task groups and context variables need it."""
        try:
            async with _awaited(make()) as value:
                self._is_over = asyncio.Event()
                entered.set_result(value)
                await self._is_over.wait()
        except BaseException as error:
            if entered.done():
                log.exception("worker_lifespan raised at its end")
            else:
                entered.set_exception(error)  # whoever waits raises it


@asynccontextmanager
async def _awaited(made: Any) -> AsyncIterator[Any]:
    if isinstance(made, AbstractAsyncContextManager):
        async with made as value:
            yield value
    elif isinstance(made, AbstractContextManager):
        with made as value:
            yield value
    else:
        if inspect.iscoroutine(made):
            made.close()  # else Python warns that nobody awaited it
        raise WrongValueError(
            f"worker_lifespan returned {indefinite(type(made).__name__)}, "
            "which is no context manager",
            fix=f"write {_EXAMPLE}",
        )


def _problem(given: object) -> str | None:
    if not callable(given):
        return f"is {indefinite(type(given).__name__)}, which cannot be called"
    if is_async(given) or is_generator(given):
        return "makes no context manager when it is called"
    problem = misfit(given, 0)
    return None if problem is None else f"cannot be called without arguments: {problem}"


def _fix(given: object) -> str:
    if isinstance(given, AbstractContextManager | AbstractAsyncContextManager):
        return (
            "give what makes it, without calling it: each worker opens one of its own"
        )
    return f"write {_EXAMPLE}, and give open_client"

"""An engine for each event loop: connections of asyncio belong to the loop that made them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from statejobs.store.engines.bound import refuse_bound
from statejobs.store.engines.cutting import Cutter
from statejobs.store.engines.forks import renew_in_children

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


class AsyncEngines:
    """The engines of `async def` bodies, opened where one is run."""

    def __init__(
        self, engine: Engine, *, connections: int, on_open: Callable[[Engine], None]
    ) -> None:
        """Make none yet.

        Args:
            engine: The database.
            connections: How many jobs of a loop may hold one at once.
            on_open: Called with the sync face of each that is opened.
        """
        self._engine = engine
        self._connections = connections
        self._on_open = on_open
        self._by_loop: dict[asyncio.AbstractEventLoop, AsyncEngine] = {}
        self._cutters: dict[asyncio.AbstractEventLoop, Cutter] = {}

    def of_this_loop(self) -> AsyncEngine:
        """Return the engine of the running loop.

        Raises:
            ConfigurationError: The driver is not installed, or the app has one connection.
        """
        refuse_bound(
            self._engine,
            "an `async def` body with a session",
            why="its loop has connections of its own",
        )
        loop = asyncio.get_running_loop()
        opened = self._by_loop.get(loop)
        if opened is None:
            from statejobs.store.engines.asyncio import open_async_engine  # noqa: PLC0415 - async extra

            opened = open_async_engine(self._engine, connections=self._connections)
            renew_in_children(opened.sync_engine)
            self._on_open(opened.sync_engine)
            self._by_loop[loop] = opened
            self._cutters[loop] = Cutter(opened.sync_engine)
        return opened

    async def close_of_this_loop(self) -> None:
        """Close the connections of the running loop, which ends."""
        loop = asyncio.get_running_loop()
        opened = self._by_loop.pop(loop, None)
        self._cutters.pop(loop, None)
        if opened is not None:
            await opened.dispose()

    def cut(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the connections of a *loop* that stands still for good."""
        self._by_loop.pop(loop, None)
        cutter = self._cutters.pop(loop, None)
        if cutter is not None:
            cutter.cut()

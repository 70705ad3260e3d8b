"""The asyncio face of a database, for `async def` actions."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from statejobs.errors import ConfigurationError
from statejobs.store.engines.factory import async_url, check_engine
from statejobs.store.engines.hearing import take_over_listeners
from statejobs.store.engines.idle import explain_idleness
from statejobs.store.engines.lazy_begin import begin_lazily
from statejobs.store.engines.postgres import read_prepare_threshold
from statejobs.store.engines.sqlite import configure_sqlite
from statejobs.store.engines.unanswered import connect_defaults

_KEPT = 5
"""Connections that stay open between jobs."""


def open_async_engine(engine: Engine, *, connections: int = 15) -> AsyncEngine:
    """Return an engine on the same database as *engine*, which begins at the first write.

    Args:
        engine: The database.
        connections: How many jobs may hold one at once.

    Raises:
        ConfigurationError: The driver is not installed.
    """
    try:
        kept = min(_KEPT, connections)
        size = {"pool_size": kept, "max_overflow": max(10, connections - kept)}
        if engine.dialect.name == "sqlite":
            opened = create_async_engine(
                async_url(engine), hide_parameters=True, **size
            )
            configure_sqlite(opened.sync_engine)
            take_over_listeners(engine, opened.sync_engine)
            return opened
        url = async_url(engine)
        opened = create_async_engine(
            url,
            isolation_level="AUTOCOMMIT",
            connect_args=connect_defaults(url, os.environ),
            hide_parameters=True,
            **size,
        )
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"async actions need {error.name}",
            why="it is not installed",
            fix="pip install 'statejobs[async]'",
        ) from error
    begin_lazily(read_prepare_threshold(opened.sync_engine), "BEGIN")
    explain_idleness(opened.sync_engine)
    take_over_listeners(engine, opened.sync_engine)
    return opened


def open_async_session(engine: AsyncEngine, info: dict[str, Any]) -> AsyncSession:
    """Return a session with *info* on an engine of the user's.

    Raises:
        ConfigurationError: It is no AsyncEngine, or cannot be used.
    """
    if not isinstance(engine, AsyncEngine):
        raise ConfigurationError(
            f"a value of type {type(engine).__name__} is not an AsyncEngine",
            why="connections of asyncio belong to the loop that made them, so the engine is yours",
            fix="pass what create_async_engine() returned; session() needs no engine",
        )
    check_engine(engine.sync_engine)
    return AsyncSession(engine, expire_on_commit=False, info=info)

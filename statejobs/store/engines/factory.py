"""Opens databases: the only place that decides by dialect."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from random import Random
from typing import Protocol

from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError

from statejobs.errors import ConfigurationError
from statejobs.store.binds import refuse_autocommit_engine
from statejobs.store.engines.bound import BoundEngine, bound_of
from statejobs.store.engines.postgres import PostgresListener, read_prepare_threshold
from statejobs.store.engines.sqlite import (
    configure_sqlite,
    is_configured,
    keep_private,
    refuse_memory,
)
from statejobs.store.engines.unanswered import SilenceWatch, connect_defaults
from statejobs.store.engines.wake import SqliteListener, wake_listeners

DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}
ASYNC_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg"}


class Listener(Protocol):
    """Calls back when there may be work."""

    def start(self) -> None:
        """Listen from now on."""
        ...

    def stop(self) -> None:
        """Stop listening."""
        ...


def parse_url(database: object) -> URL:
    """Return *database* as a URL with the driver that statejobs uses.

    Text and SQLAlchemy's own URLs are, and so is whatever reads as one: pydantic's `PostgresDsn`.

    Raises:
        ConfigurationError: Not a URL, or neither SQLite nor PostgreSQL.
    """
    try:
        url = make_url(database if isinstance(database, URL) else str(database))
    except ArgumentError:
        raise ConfigurationError(
            f"{str(database)!r} is not a database URL",
            why="a URL begins with the kind of database and ://",
            fix="say sqlite:///app.db or postgresql://user:password@host/name",
        ) from None
    backend = url.get_backend_name()
    if backend == "postgres":  # the old spelling, still in many environments
        backend = "postgresql"
        url = url.set(drivername="postgresql")
    if backend not in DRIVERS:
        raise ConfigurationError(
            f"{backend} is not supported",
            why="claims need what only the statements for SQLite and PostgreSQL say",
            fix="use sqlite:///app.db or postgresql://user:password@host/name",
        )
    if "+" in url.drivername and url.drivername not in {
        DRIVERS[backend],
        ASYNC_DRIVERS[backend],
    }:
        raise ConfigurationError(
            f"driver {url.drivername!r} is not supported for workers",
            why="they rely on what one driver for each database does",
            fix=f"say {DRIVERS[backend]!r}; sessions of your own may use any driver",
        )
    return url.set(drivername=DRIVERS[backend])


def open_engine(
    database: str | URL | Engine | Connection, *, connections: int = 20
) -> Engine:
    """Return an engine for *database*, configured for workers.

    Args:
        database: A URL, an engine of yours (SQLite ones after `configure_sqlite`), or one of its
            connections, in whose transaction everything is done then.
        connections: How many pooled connections to keep.

    Raises:
        ConfigurationError: The URL or engine cannot be used.
    """
    if is_async_engine(getattr(database, "engine", database)):
        raise ConfigurationError(
            "this engine is asynchronous, and workers need one that is not",
            why="they claim, commit and renew in threads; async bodies get sessions all the same",
            fix="pass the URL instead: sqlite:///app.db or postgresql://user:password@host/name; "
            "async_session(engine) of the app gives sessions on yours",
        )
    if isinstance(database, Connection):
        _check_for_workers(database.engine)
        return BoundEngine(database)
    if isinstance(database, Engine):
        _check_for_workers(database)
        return database
    url = parse_url(database)
    try:
        if url.get_backend_name() == "sqlite":
            # before create_engine, whose pool for it takes no pool_size
            refuse_memory(url)
            return keep_private(
                configure_sqlite(
                    create_engine(
                        url,
                        pool_size=connections,
                        max_overflow=10,
                        hide_parameters=True,
                    )
                )
            )
        return read_prepare_threshold(
            create_engine(
                url,
                pool_size=connections,
                max_overflow=10,
                pool_use_lifo=True,
                pool_pre_ping=False,
                hide_parameters=True,
                connect_args=connect_defaults(url, os.environ),
            )
        )
    except ImportError as error:  # psycopg raises it where it is, and finds no libpq
        raise ConfigurationError(
            "PostgreSQL needs a driver",
            why=_why_not_imported(error),
            fix="pip install 'statejobs[postgres]'",
        ) from error


def _check_for_workers(engine: Engine) -> None:
    if bound_of(engine) is None:  # else its connection was looked at
        check_engine(engine)
        parse_url(engine.url)


def check_engine(engine: Engine) -> None:
    """Refuse an engine of the user's in whose transactions jobs cannot be kept.

    Raises:
        ConfigurationError: It is in AUTOCOMMIT, or one for SQLite without `configure_sqlite`.
    """
    if engine.dialect.name == "sqlite" and not is_configured(engine):
        raise ConfigurationError(
            "this SQLite engine would fail under several writers",
            why="its transactions begin as readers, and cannot wait for their turn to write",
            fix="call statejobs.configure_sqlite(engine) right after create_engine()",
        )
    refuse_autocommit_engine(engine)


def check_async_driver(engine: Engine) -> None:
    """Refuse a database that `async def` bodies cannot be run on, for want of a package.

    Raises:
        ConfigurationError: The extra is not installed.
    """
    needed = (
        ("greenlet", "aiosqlite") if engine.dialect.name == "sqlite" else ("greenlet",)
    )
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"`async def` actions and tasks need {' and '.join(missing)}",
            why="it is not installed",
            fix="pip install 'statejobs[async]'",
        )


def is_async_engine(database: object) -> bool:
    """Return whether *database* is an AsyncEngine, or the engine below one."""
    engine = getattr(database, "sync_engine", database)
    return isinstance(engine, Engine) and engine.dialect.is_async


def _why_not_imported(error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"the module {error.name} is not installed"
    return f"it is there, and cannot be imported: {str(error).splitlines()[0]}"


def async_url(engine: Engine) -> URL:
    """Return the URL of *engine* for an asyncio driver."""
    return engine.url.set(drivername=ASYNC_DRIVERS[engine.dialect.name])


def make_listener(
    engine: Engine,
    node_id: str,
    on_wake: Callable[[], None],
    rng: Random,
    *,
    on_cancel: Callable[[], None] = lambda: None,
) -> Listener:
    """Return what calls back when a transaction of any process has something for a node.

    Args:
        engine: The database.
        node_id: The node that listens.
        on_wake: Called when work was enqueued.
        rng: Chance.
        on_cancel: Called when a job of the node is to stop, on PostgreSQL; a heartbeat sees it too.
    """
    if engine.dialect.name == "sqlite":
        return SqliteListener(engine, node_id, on_wake)

    def hear(node: str | None) -> None:
        if node in {None, node_id}:
            on_cancel()

    return PostgresListener(engine, on_wake, rng, on_cancel=hear)


def make_watch(engine: Engine, monotonic: Callable[[], float]) -> SilenceWatch | None:
    """Return what notices connections that stay silent; files always answer."""
    if engine.dialect.name == "sqlite" or bound_of(engine) is not None:
        return None
    return SilenceWatch(engine, monotonic)


def wake_workers(engine: Engine) -> None:
    """Hint, after a commit, that there may be work (PostgreSQL does so in the transaction)."""
    if engine.dialect.name == "sqlite":
        wake_listeners(engine)

"""What SQLite needs: WAL, IMMEDIATE write transactions, and a file that can be shared."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from sqlalchemy import URL, Engine, ExceptionContext, event

from statejobs.errors import ConfigurationError, WrongValueError
from statejobs.store.engines.lazy_begin import begin_lazily
from statejobs.values.kinds import check_number

BEGIN = "BEGIN IMMEDIATE"
_NEW_FILE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
_OWNER_ALONE = 0o600


def configure_sqlite(
    engine: Engine,
    *,
    synchronous: Literal["FULL", "NORMAL"] = "FULL",
    busy_timeout_seconds: float = 30,
) -> Engine:
    """Make *engine* safe for several threads and processes; return it.

    Write-ahead logging, foreign keys on, a busy timeout, and transactions that begin at the first
    write as `BEGIN IMMEDIATE`, so that readers never block and writers wait for their turn.

    Args:
        engine: A SQLite engine (of an AsyncEngine, its `sync_engine`) on a file.
        synchronous: FULL survives a power cut. NORMAL is several times faster for single commits;
            after a power cut the last commits may be missing, the file stays consistent.
        busy_timeout_seconds: How long a writer waits for another.

    Raises:
        ConfigurationError: Not SQLite, or in memory: its connections do not share one database.
    """
    if not isinstance(engine, Engine):
        raise ConfigurationError(
            f"configure_sqlite: {type(engine).__name__} is no Engine",
            why="it sets up the connections of one",
            fix="of an AsyncEngine, give its sync_engine",
        )
    if engine.dialect.name != "sqlite":
        raise ConfigurationError(
            f"configure_sqlite: {engine.dialect.name} is not SQLite",
            why="what it sets up exists in SQLite only",
            fix="leave it out",
        )
    check_number("configure_sqlite(busy_timeout_seconds=…)", busy_timeout_seconds)
    if synchronous not in {"FULL", "NORMAL"}:
        raise WrongValueError(
            f"must be 'FULL' or 'NORMAL', not {synchronous!r}",
            where="configure_sqlite(synchronous=…)",
            why="with less, a loss of power may spoil the file",
        )
    refuse_memory(engine.url)

    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin by itself
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout = {int(busy_timeout_seconds * 1000)}",
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            "foreign_keys = ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    if not is_configured(engine):
        event.listen(engine, "connect", prepare)
        event.listen(engine, "checkin", _end_transaction)
        event.listen(engine, "handle_error", _end_after_failure)
        begin_lazily(engine, BEGIN)
    return engine


def keep_private(engine: Engine) -> Engine:
    """Let a file that *engine* makes be for its owner alone, if the umask lets it; return it.

    One that is there keeps its mode, and so do the files that SQLite makes beside it.
    """
    path = database_path(engine)
    makes_it = engine.url.query.get("mode", "rwc") == "rwc"

    def make(*_: object) -> None:
        if path is not None and makes_it:
            # SQLite says better than we could why there can be none.
            with suppress(OSError):
                os.close(os.open(os.path.realpath(path), _NEW_FILE, _OWNER_ALONE))

    event.listen(engine, "do_connect", make)
    return engine


def _end_transaction(connection: Any, record: Any) -> None:
    """A COMMIT that failed leaves its transaction open, and SQLAlchemy does not roll it back.

    Whoever takes the connection from the pool next would commit what was reported as failed.
    """
    driver = record.driver_connection  # below the adapter of an asyncio driver
    if driver is None or not driver.in_transaction:
        return
    try:
        connection.rollback()
    except Exception as error:  # noqa: BLE001 - what does not roll back is closed
        record.invalidate(error)


def _end_after_failure(context: ExceptionContext) -> None:
    """Close the connection whose COMMIT or ROLLBACK failed, and its transaction before.

    A session that fails so while it closes leaves the connection to the garbage collector, and
    every writer waits for its lock.
    """
    connection = context.connection
    if context.statement is not None or connection is None or connection.invalidated:
        return
    held = connection.connection
    _end_transaction(held.dbapi_connection, held)
    if not connection.invalidated:
        connection.invalidate()


def is_configured(engine: Engine) -> bool:
    """Return whether `configure_sqlite` has been called on *engine*."""
    return engine.get_execution_options().get("statejobs_begin") == BEGIN


def refuse_memory(url: URL) -> None:
    """Refuse a SQLite database in memory.

    Raises:
        ConfigurationError: It is one.
    """
    if _file_of(url) is None:
        raise ConfigurationError(
            "SQLite in memory cannot be shared by threads and workers",
            why="each of its connections has a database of its own",
            fix="use a file, for instance sqlite:///app.db; in tests one under pytest's tmp_path, "
            "or under /dev/shm where there is one, which is as fast",
        )


def database_path(engine: Engine) -> Path | None:
    """Return the file of a SQLite engine; None in memory."""
    return _file_of(engine.url)


def _file_of(url: URL) -> Path | None:
    name = url.database or ""
    is_uri = name.startswith("file:")
    path = unquote(name.removeprefix("file:").split("?")[0]) if is_uri else name
    if (
        path in {"", ":memory:"}
        or url.query.get("mode") == "memory"
        or "mode=memory" in name
    ):
        return None
    return Path(path).absolute()

"""What SQLite needs: WAL, IMMEDIATE write transactions, and a file that can be shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Engine, event

from statejobs.errors import ConfigurationError
from statejobs.store.lazy_begin import begin_lazily

BEGIN = "BEGIN IMMEDIATE"


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
    if engine.dialect.name != "sqlite":
        raise ConfigurationError(
            f"configure_sqlite: {engine.dialect.name} is not SQLite",
            why="what it sets up exists in SQLite only",
            fix="leave it out",
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
        begin_lazily(engine, BEGIN)
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
            fix="use a file, for instance sqlite:///app.db; in tests, one under tmp_path",
        )


def database_path(engine: Engine) -> Path | None:
    """Return the file of a SQLite engine; None in memory."""
    return _file_of(engine.url)


def _file_of(url: URL) -> Path | None:
    name = url.database or ""
    path = name.removeprefix("file:").split("?")[0]
    if path in {"", ":memory:"} or url.query.get("mode") == "memory" or "mode=memory" in name:
        return None
    return Path(path).absolute()

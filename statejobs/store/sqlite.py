"""What SQLite needs: WAL, IMMEDIATE write transactions, and a hint across processes."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Engine, event

from statejobs.errors import ConfigurationError
from statejobs.store.lazy_begin import begin_lazily

BEGIN = "BEGIN IMMEDIATE"
_ID_DIGITS = 12
_SOCKET_PATH_LIMIT = 100  # bytes; the kernel's is 107


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


def wake_listeners(engine: Engine) -> None:
    """Tell every worker on this file that there may be work; never fails, never blocks."""
    path = database_path(engine)
    if path is not None:
        # The commit is done: an error here, for want of a descriptor, would say that it is not.
        with contextlib.suppress(OSError):
            _wake_beside(path)


def _wake_beside(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        prefix = _socket_prefix(path)
        for address in prefix.parent.glob(f"{glob.escape(prefix.name)}*"):
            try:
                sender.sendto(b"w", str(address))
            except ConnectionRefusedError:  # its worker was killed
                with contextlib.suppress(OSError):
                    address.unlink()
            except OSError:  # full buffer: the worker has been told already
                continue


class SqliteListener:
    """Listens on a datagram socket beside the database file."""

    def __init__(self, engine: Engine, node_id: str, on_wake: Callable[[], None]) -> None:
        path = database_path(engine)
        if path is None:
            raise ConfigurationError(
                "SQLite in memory has no file to listen beside",
                why="workers are told of new jobs by sockets named after the file",
                fix="use a file, for instance sqlite:///app.db",
            )
        prefix = _socket_prefix(path)
        self._address = prefix.with_name(prefix.name + node_id[:_ID_DIGITS])
        self._on_wake = on_wake
        self._thread: threading.Thread | None = None
        self._stopped = False

    def start(self) -> None:
        """Bind and listen; without a socket, workers find work by polling."""
        try:
            ear = _bind(self._address)
        except OSError:  # a read-only directory, a file system without sockets, no descriptor
            return
        self._thread = threading.Thread(
            target=self._listen, args=[ear], name="statejobs-wake", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and remove the socket."""
        self._stopped = True
        if self._thread is None:
            return
        with contextlib.suppress(OSError):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"s", str(self._address))
            self._address.unlink()
        self._thread.join(timeout=1)

    def _listen(self, ear: socket.socket) -> None:
        with ear:
            while not self._stopped:
                ear.recv(16)
                if not self._stopped:
                    self._on_wake()


def _bind(address: Path) -> socket.socket:
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        ear.bind(str(address))
    except OSError:
        ear.close()
        raise
    return ear


def _socket_prefix(path: Path) -> Path:
    beside = path.with_name(f"{path.name}-wake-")
    if len(os.fsencode(beside)) + _ID_DIGITS <= _SOCKET_PATH_LIMIT:
        return beside
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"statejobs-{digest}-wake-"

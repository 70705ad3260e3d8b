"""Notices answers that never come, and closes the sockets that wait for them.

A firewall, a dead NAT entry or a proxy can swallow a connection without closing it. TCP notices a
peer that is gone, but not one that acknowledges and never answers; a thread would wait for good.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from statejobs.store.engines.fresh import fresh_connection

log = logging.getLogger("statejobs.worker")

SUSPECT_AFTER = 5.0
"""Seconds after which the server is asked whether it still works on a statement."""
LET_GO_AFTER = 10.0
"""Seconds after which a statement is given up while new connections are not answered either."""
_CONFIRM_AFTER = 1.5  # seconds between the two looks that must agree
_ANSWER_WITHIN = 10.0  # seconds that the server has for ours
_SAY_EVERY = 10.0  # seconds between two lines of log

_ACTIVE = 1  # PQTRANS_ACTIVE: sent, and not answered yet
_SESSIONS = """
SELECT pid, CASE WHEN state = 'active' THEN NULL ELSE CAST(state_change AS TEXT) END
FROM pg_stat_activity WHERE pid = ANY(%s)
"""
_DEFAULTS = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}
"""libpq notices within about ten seconds that the other end is gone; its own take hours."""


def connect_defaults(url: URL, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of libpq that *url* and the environment leave open."""
    said = set(url.query)
    if "PGCONNECT_TIMEOUT" in environ:
        said.add("connect_timeout")
    return {name: value for name, value in _DEFAULTS.items() if name not in said}


@dataclass(slots=True)
class _Wait:
    """A connection that waits for an answer."""

    since: float
    """Monotonic seconds."""
    seen_at: float = 0.0
    """When the server said that it does not work for it."""
    mark: str | None = None
    """What the server said of it then."""


class SilenceWatch:
    """Watches the connections of an engine; one call of `run_once` is one look.

    It costs statements nothing: libpq knows by itself whether it waits. A statement that the
    server works on may take as long as it likes.
    """

    def __init__(self, engine: Engine, monotonic: Callable[[], float]) -> None:
        self._engine = engine
        self._monotonic = monotonic
        self._connections: list[weakref.ref[Any]] = []
        self._lock = threading.Lock()
        self._waits: dict[int, _Wait] = {}
        self._said_at = float("-inf")
        self.include(engine)

    def include(self, engine: Engine) -> None:
        """Watch the connections that *engine* makes from now on."""
        event.listen(engine, "connect", self._note)

    def close(self) -> None:
        """Watch no more: the engine may be a user's, and live on."""
        event.remove(self._engine, "connect", self._note)

    def run_once(self) -> int:
        """Close the connections whose answers will not come; return how many."""
        now = self._monotonic()
        waiting = {id(connection): connection for connection in self._waiting()}
        self._waits = {key: self._waits.get(key) or _Wait(now) for key in waiting}
        suspects = [
            connection
            for key, connection in waiting.items()
            if now - self._waits[key].since >= SUSPECT_AFTER
        ]
        if not suspects:
            return 0
        try:
            deaf = self._ask(suspects)
        except (
            self._engine.dialect.loaded_dbapi.Error,
            SQLAlchemyError,
            TimeoutError,
        ) as error:
            self._say(
                "the database does not say whether it works on %d statement(s): %s",
                len(suspects),
                error,
            )
            deaf = self._overdue(suspects) if _is_silence(error) else []
        return self._close(deaf)

    def close_waiting(self) -> int:
        """Close every connection that waits for an answer now; return how many."""
        return self._close(self._waiting())

    def _note(self, _dbapi_connection: Any, record: Any) -> None:
        with self._lock:
            self._connections = [ref for ref in self._connections if ref() is not None]
            self._connections.append(weakref.ref(record.driver_connection))

    def _waiting(self) -> list[Any]:
        with self._lock:
            connections = [ref() for ref in self._connections]
        return [c for c in connections if c is not None and _is_waiting(c)]

    def _ask(self, suspects: Iterable[Any]) -> list[Any]:
        """Return those of which the server said the same twice: it does not work for them."""
        by_pid = {connection.info.backend_pid: connection for connection in suspects}
        with self._fresh() as connection:
            (own,) = connection.execute("SELECT pg_backend_pid()").fetchone()
            if own != connection.info.backend_pid:
                return []  # behind a pooler, whose process ids are its own: nobody can tell
            rows = connection.execute(_SESSIONS, [list(by_pid)]).fetchall()
        marks = dict.fromkeys(by_pid, "gone") | dict(rows)
        now = self._monotonic()
        return [
            by_pid[pid]
            for pid in by_pid
            if self._is_confirmed(by_pid[pid], marks.get(pid), now)
        ]

    def _is_confirmed(self, connection: Any, mark: str | None, now: float) -> bool:
        """A statement may be on its way: only what has not changed for a while counts."""
        wait = self._waits[id(connection)]
        if mark is None or wait.mark != mark:
            wait.mark = mark
            wait.seen_at = now
            return False
        return now - wait.seen_at >= _CONFIRM_AFTER

    @contextlib.contextmanager
    def _fresh(self) -> Iterator[Any]:
        """Open a connection that no pool has kept, and that is closed when it stays silent."""
        with fresh_connection(self._engine) as driver:
            guard = threading.Timer(_ANSWER_WITHIN, _shut, [driver])
            guard.daemon = True
            guard.start()
            try:
                yield driver
            except self._engine.dialect.loaded_dbapi.Error as error:
                if guard.finished.is_set():
                    raise TimeoutError("no answer") from error
                raise
            finally:
                guard.cancel()

    def _overdue(self, suspects: Iterable[Any]) -> list[Any]:
        now = self._monotonic()
        return [c for c in suspects if now - self._waits[id(c)].since >= LET_GO_AFTER]

    def _close(self, connections: Iterable[Any]) -> int:
        closed = sum(_shut(connection) for connection in connections)
        if closed:
            self._say(
                "the database has not answered %d connections: they are closed", closed
            )
        return closed

    def _say(self, text: str, *args: object) -> None:
        now = self._monotonic()
        if now - self._said_at >= _SAY_EVERY:
            self._said_at = now
            log.warning(text, *args)


def _is_waiting(connection: Any) -> bool:
    return int(connection.info.transaction_status) == _ACTIVE


def _is_silence(error: Exception) -> bool:
    """Whether nobody answered; a server that refuses is there, and so may be the statements."""
    return (
        isinstance(error, TimeoutError) or type(error).__name__ == "ConnectionTimeout"
    )


def _shut(connection: Any) -> bool:
    """End the socket under a waiting connection: its thread then meets a lost connection."""
    with contextlib.suppress(Exception):
        number = connection.fileno()
        with socket.socket(fileno=os.dup(number)) as twin:
            # The number may have got a new owner since: only a connection that still waits is it.
            if connection.fileno() == number and _is_waiting(connection):
                twin.shutdown(socket.SHUT_RDWR)
                return True
    return False

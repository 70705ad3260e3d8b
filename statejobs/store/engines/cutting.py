"""Connections whose owner stands still can be cut off from outside.

An event loop that a body blocks cannot roll back what its other bodies have written, and the rows
stay locked. The server rolls back as soon as it finds that the socket has ended.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from typing import Any

from sqlalchemy import Engine, event


class Cutter:
    """Knows the open connections of an engine, and can end them from any thread."""

    def __init__(self, engine: Engine) -> None:
        """Watch the connections that *engine* opens from now on."""
        # a file has no server to roll back
        self._is_served = engine.dialect.name == "postgresql"
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()
        event.listen(engine, "connect", self._note)

    def cut(self) -> None:
        """End every connection; whoever uses one meets an error, and nothing of it is committed."""
        with self._lock:
            connections = list(self._open) if self._is_served else []
        for connection in connections:
            with contextlib.suppress(Exception):  # closed meanwhile
                _end_socket(connection.fileno())

    def _note(self, _connection: Any, record: Any) -> None:
        with self._lock:
            self._open.add(record.driver_connection)


def _end_socket(descriptor: int) -> None:
    """Shut the socket down; its number stays taken, so that nobody else's is met by the owner."""
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        copy.shutdown(socket.SHUT_RDWR)

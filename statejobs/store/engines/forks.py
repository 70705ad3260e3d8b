"""Lets a forked child make connections of its own, and leave those of its parent alone.

A server that preloads the app forks workers which would all talk through the parent's sockets. And
SQLite keeps the locks that a process holds on a file in memory, so that a child would believe that
it holds those of its parent: a file that is closed in the meantime is checkpointed under its feet.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Any, NoReturn
from weakref import WeakSet

from sqlalchemy import Engine, Pool, event

from statejobs.errors import StateJobsError
from statejobs.store.engines.bound import bound_of
from statejobs.store.engines.closing import renew_pool

_engines: WeakSet[Engine] = WeakSet()
_connections: WeakSet[Any] = WeakSet()
"""Records of the pools of those engines, whose connections may be in the middle of something."""
_lock = threading.Lock()
_of_parents: list[Pool | Any] = []
"""In a child: kept, since collecting them would end what their connections have open."""


def renew_in_children(engine: Engine) -> None:
    """Give *engine* a new pool in every process that is forked from this one.

    One that is bound to a connection has none of its own.
    """
    if bound_of(engine) is not None:
        return
    _listen_to_forks()
    with _lock:
        is_new = engine not in _engines
        _engines.add(engine)
    if is_new:
        event.listen(engine, "connect", _note)


def leave_to_parent(pool: Pool) -> None:
    """Touch the connections of *pool* no more: they belong to the process that forked this one."""
    _of_parents.append(pool)


@cache
def _listen_to_forks() -> None:
    os.register_at_fork(before=_close_files, after_in_child=_renew)


def _close_files() -> None:
    """Close the files of SQLite that nobody uses, so that a child inherits no locks."""
    with _lock:
        engines = [engine for engine in _engines if engine.dialect.name == "sqlite"]
    for engine in engines:
        if not engine.dialect.is_async:  # those belong to a loop, and a child has none
            renew_pool(engine)


def _note(_connection: Any, record: Any) -> None:
    _connections.add(record)


def _renew() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have had it
    _lock = threading.Lock()
    _part_from_parent()
    for engine in tuple(_engines):
        leave_to_parent(engine.pool)
        engine.dispose(close=False)


class _OfParent:
    """Stands for a connection that is in use in the parent: it is let go without a word to it."""

    def rollback(self) -> None:
        """Leave the transaction to the parent."""

    def close(self) -> None:
        """Leave the connection to the parent."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise StateJobsError(
            "this connection belongs to the process that forked this one, which is "
            "in the middle of a transaction",
            fix="Open a session of your own here",
        )


def _part_from_parent() -> None:
    """Take what is in use in the parent from whoever has a copy of it here.

    The end of a session in the child would roll back the transaction of the parent, whose commit
    then returns as if all was well.
    """
    for record in tuple(_connections):
        fairy = record.fairy_ref and record.fairy_ref()
        if fairy is not None and hasattr(record.driver_connection, "fileno"):
            _of_parents.append(record.dbapi_connection)
            fairy.dbapi_connection = record.dbapi_connection = _OfParent()
    _connections.clear()

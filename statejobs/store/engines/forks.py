"""Lets a forked child make connections of its own, and leave those of its parent alone.

A server that preloads the app forks workers which would all talk through the parent's sockets. And
SQLite keeps the locks that a process holds on a file in memory, so that a child would believe that
it holds those of its parent: a file that is closed in the meantime is checkpointed under its feet.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from weakref import WeakSet

from sqlalchemy import Engine, Pool

from statejobs.store.engines.bound import bound_of
from statejobs.store.engines.closing import renew_pool

_engines: WeakSet[Engine] = WeakSet()
_lock = threading.Lock()
_of_parents: list[Pool] = []
"""In a child: kept, since collecting them would end what their connections have open."""


def renew_in_children(engine: Engine) -> None:
    """Give *engine* a new pool in every process that is forked from this one.

    One that is bound to a connection has none of its own.
    """
    if bound_of(engine) is not None:
        return
    _listen_to_forks()
    with _lock:
        _engines.add(engine)


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


def _renew() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have had it
    _lock = threading.Lock()
    for engine in tuple(_engines):
        leave_to_parent(engine.pool)
        engine.dispose(close=False)

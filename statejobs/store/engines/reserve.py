"""Connections of a worker's own, beside the pool that its jobs and its app may use up.

A body that holds a connection while it waits must not keep leases from being renewed, nor outcomes
from being recorded.
"""

from __future__ import annotations

import os

from sqlalchemy import Engine, Pool, PoolProxiedConnection, QueuePool, event
from sqlalchemy.engine.base import OptionEngine

from statejobs.store.engines.closing import keep_nothing, let_go
from statejobs.store.engines.forks import leave_to_parent

SHARED = 2
"""Connections for claims, outcomes and rescue."""
OF_LEASES = 1
"""Connections that renew leases; whatever else waits, these do not."""
LISTENING = 1
"""Connections that listen; the listener makes it for itself."""
BESIDE = SHARED + OF_LEASES + LISTENING
"""Connections of a worker beside those of its jobs."""


def can_reserve(engine: Engine) -> bool:
    """Return whether *engine* has a pool that can be used up."""
    return isinstance(engine.pool, QueuePool)


def most_waiting(engine: Engine) -> int | None:
    """Return how many outcomes may wait for locks at a time, so that claims find a connection.

    None where no pool can be used up. A quarter of the pool is what bodies leave idle, if any.
    """
    if not isinstance(engine.pool, QueuePool):
        return None
    return max(SHARED - 1, engine.pool.size() // 4)


class Reserve(OptionEngine):
    """The same database with the same events as another engine, and a few connections beside."""

    def __init__(self, engine: Engine, *, most: int, may_borrow: bool = False) -> None:
        """Make a reserve; it opens nothing yet.

        Args:
            engine: Whose pool may be used up.
            most: Connections of its own.
            may_borrow: Whether it takes idle connections of *engine* when its own are in use.
        """
        super().__init__(engine, {})
        self._lender = engine
        self._may_borrow = may_borrow
        self._own = _beside(engine.pool, most)
        self._process = os.getpid()
        event.listen(_root_of(engine), "engine_disposed", self._let_go)

    def raw_connection(self) -> PoolProxiedConnection:
        """Return a connection of its own, or one that nobody needs; wait for its own."""
        if self._may_borrow and not _has_idle(self._own, keep=0):
            lender = self._lender.pool
            if _has_idle(lender, keep=1):
                return lender.connect()
        return self._own.connect()

    def close(self) -> None:
        """Close its own connections, for good; a straggler's as soon as it comes back."""
        event.remove(_root_of(self._lender), "engine_disposed", self._let_go)
        self._let_go(self._lender)
        keep_nothing(self._own)

    def _let_go(self, _engine: Engine) -> None:
        """Close what is idle with the pool beside; a forked copy leaves it to its parent."""
        before = self._own
        self._own = self._own.recreate()
        if os.getpid() == self._process:
            let_go(before)
        else:
            leave_to_parent(before)
        self._process = os.getpid()


def _root_of(engine: Engine) -> Engine:
    """Return the engine that has the pool; the others are only views of it."""
    while isinstance(engine, OptionEngine):
        engine = engine._proxied  # noqa: SLF001 - there is no public way up
    return engine


def _has_idle(pool: Pool, *, keep: int) -> bool:
    return isinstance(pool, QueuePool) and pool.checkedout() + keep < pool.size()


def _beside(pool: Pool, most: int) -> Pool:
    """Return a pool that connects as *pool* does, with its events; as `Pool.recreate` would."""
    return QueuePool(
        pool._creator,  # noqa: SLF001 - there is no public way to another size
        pool_size=most,
        max_overflow=0,
        use_lifo=True,
        recycle=pool._recycle,  # noqa: SLF001
        pre_ping=pool._pre_ping,  # noqa: SLF001
        reset_on_return=pool._reset_on_return,  # noqa: SLF001
        dialect=pool._dialect,  # noqa: SLF001
        _dispatch=pool.dispatch,
    )

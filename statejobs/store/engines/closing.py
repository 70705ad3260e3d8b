"""Pools and engines that end: what is in use then is closed when it comes back.

`Engine.dispose` closes what is idle. What is in use returns to a pool that nobody has any more,
and would stay open until it is collected; and the engine quietly opens connections again.
"""

from __future__ import annotations

from typing import Any, NoReturn

from sqlalchemy import Engine, Pool, event

from statejobs.errors import ClosedError


def let_go(pool: Pool) -> None:
    """Close what is idle in *pool* now, and what is in use as soon as it comes back."""
    keep_nothing(pool)
    pool.dispose()


def keep_nothing(pool: Pool) -> None:
    """Close each connection of *pool* that comes back from now on."""
    event.listen(pool, "checkin", _close)


def renew_pool(engine: Engine) -> None:
    """Give *engine* a pool without connections, and let go of the one that it had."""
    before = engine.pool
    engine.dispose()
    let_go(before)


def close_for_good(engine: Engine) -> None:
    """Close the connections of *engine*, and let it make no other."""
    event.listen(engine, "do_connect", _refuse, insert=True)
    renew_pool(engine)


def _close(_connection: Any, record: Any) -> None:
    record.close()


def _refuse(*_: object) -> NoReturn:
    raise ClosedError

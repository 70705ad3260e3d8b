"""What is closed stays closed: a pool would quietly open connections again."""

from __future__ import annotations

from typing import Any, NoReturn

from sqlalchemy import Engine, Pool, event

from statejobs.errors import ClosedError


def close_for_good(engine: Engine) -> None:
    """Close the connections of *engine*, and let it make no other.

    Those in use are closed when they are given back.
    """
    event.listen(engine, "do_connect", _refuse, insert=True)
    close_what_returns(engine.pool)
    engine.dispose()


def close_what_returns(pool: Pool) -> None:
    """Close the connections of *pool* that are in use now, when they are given back."""
    event.listen(pool, "checkin", _close)


def _close(_connection: Any, record: Any) -> None:
    record.close()


def _refuse(*_: object) -> NoReturn:
    raise ClosedError

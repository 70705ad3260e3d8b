"""Connections of the driver that no pool keeps: whoever opens one closes it, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import Engine


@contextmanager
def fresh_connection(engine: Engine) -> Iterator[Any]:
    """Open a connection of the driver beside the pool of *engine*, which may be used up.

    It is made as those of the pool are, with the same events, and closed at the end.
    """
    pooled = engine.pool.recreate().connect()
    driver: Any = pooled.driver_connection
    with closing(driver):
        pooled.detach()
        yield driver

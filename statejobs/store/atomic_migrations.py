"""Migrations of SQLite that happen whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event

from statejobs.errors import ConfigurationError
from statejobs.store.engines.sqlite import BEGIN


@contextmanager
def atomic_migrations(connection: Connection) -> Iterator[None]:
    """Let each migration of SQLite happen whole or not at all; leave other databases as they are.

    Python's driver begins no transaction for a CREATE TABLE: a batch that fails would leave its
    copy, `_alembic_tmp_…`, in the way of the next try. And foreign keys are off meanwhile, or a
    table that is changed by copying it would take with it the rows that refer to it.

    Raises:
        ConfigurationError: A transaction is open already.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    if connection.in_transaction():
        raise ConfigurationError(
            "atomic_migrations: the connection is in a transaction",
            why="SQLite switches foreign keys off outside of transactions only",
            fix="call it right after connect(), before anything is executed",
        )
    driver: Any = connection.connection
    before = driver.isolation_level, _set_foreign_keys(driver, on=False)
    driver.isolation_level = None  # the driver must not begin by itself
    event.listen(connection, "begin", _begin)
    try:
        yield
    finally:
        event.remove(connection, "begin", _begin)
        connection.rollback()  # what Alembic left open it has only read
        driver.isolation_level = before[0]
        _set_foreign_keys(driver, on=before[1])


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(BEGIN)


def _set_foreign_keys(driver: Any, *, on: bool) -> bool:
    """Switch them; return whether they were on."""
    cursor = driver.cursor()
    cursor.execute("PRAGMA foreign_keys")
    was_on = bool(cursor.fetchone()[0])
    cursor.execute(f"PRAGMA foreign_keys = {'ON' if on else 'OFF'}")
    cursor.close()
    return was_on

"""Defaults of a PostgreSQL server under which statements of ours would fail, and what lifts them.

A database or role may have its own isolation level and timeouts. Ours are written for READ
COMMITTED, and wait for a lock for as long as it takes. Where the defaults are others, our
transactions begin with what they need; elsewhere nothing is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from statejobs.store.engines.savepoints import SAVEPOINT, borrowed_of

_KNOWN = "statejobs_limits"
_TIMEOUTS = ("lock_timeout", "statement_timeout")
_HALF_DEADLOCK = (
    "(extract(epoch FROM current_setting('deadlock_timeout')::interval) * 500)::integer"
)
_ASK = (
    f"SELECT {_HALF_DEADLOCK}, current_setting('default_transaction_isolation'), "
    + ", ".join(f"current_setting('{name}')" for name in _TIMEOUTS)
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What differs from the defaults that PostgreSQL itself has."""

    isolation: str = ""
    """What is added to BEGIN."""
    timeouts: tuple[str, ...] = ()
    """Names of the settings that would end our statements."""
    patience: int = 0
    """Milliseconds that a worker waits for a lock while it holds others: half of what the server
    waits before it looks for a deadlock, so that it is the worker who yields."""

    @property
    def lift(self) -> str:
        """SQL that takes the timeouts away for this transaction."""
        return "; ".join(f"SET LOCAL {name} TO 0" for name in self.timeouts)

    @property
    def impose(self) -> str:
        """SQL that brings them back."""
        return "; ".join(f"SET LOCAL {name} TO DEFAULT" for name in self.timeouts)

    def __bool__(self) -> bool:
        return bool(self.isolation or self.timeouts)


_NONE = Limits()


def limits_of(connection: Connection) -> Limits:
    """Return the limits of the session of *connection*, which is in no transaction the first time.

    They are read once for each connection of the driver: a session keeps the defaults with which
    it began.
    """
    known: Limits | None = connection.info.get(_KNOWN)
    if known is None:
        is_ours = connection.get_execution_options().get("statejobs_begin") != SAVEPOINT
        has_some = connection.dialect.name == "postgresql" and is_ours
        known = _read(connection) if has_some else _NONE
        connection.info[_KNOWN] = known
    return known


def wait_as_long_as_it_takes(connection: Connection) -> None:
    """Let the statements that follow in this transaction wait for locks without an end."""
    if connection.dialect.name == "postgresql" and borrowed_of(connection) is None:
        connection.exec_driver_sql("SET LOCAL lock_timeout TO 0")


def send(connection: Connection, cursor: Any, statement: str) -> None:
    """Send *statement* without the way through SQLAlchemy, whose errors it meets nevertheless.

    Raises:
        DBAPIError: As if SQLAlchemy had sent it; it has dropped a connection that is lost.
    """
    try:
        cursor.execute(statement)
    except connection.dialect.loaded_dbapi.Error as error:
        try:
            connection.exec_driver_sql(statement)
        except DBAPIError as told:
            told.orig = error  # the first said why
            raise told from error


def _read(connection: Connection) -> Limits:
    cursor = connection.connection.cursor()
    send(connection, cursor, _ASK)
    ((patience, isolation, *timeouts),) = cursor.fetchall()
    cursor.close()
    by_name = zip(_TIMEOUTS, timeouts, strict=True)
    return Limits(
        isolation=""
        if isolation == "read committed"
        else " ISOLATION LEVEL READ COMMITTED",
        patience=max(patience, 1),
        timeouts=tuple(name for name, value in by_name if value != "0"),
    )

"""Whose fault an error of the database is: one classification, for everyone who must decide."""

from __future__ import annotations

import re
import sqlite3
from enum import StrEnum

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from statejobs.values.discretion import without_values


class Fault(StrEnum):
    """What an error of the database says of what was tried."""

    AWAY = "away"
    """Nobody can work: the connection is lost, or the server starts, stops or is full."""
    READ_ONLY = "read-only"
    """Nobody can write for the time being."""
    CONFLICT = "conflict"
    """Another transaction was in the way: the same again may succeed at once."""
    LOCKED = "locked"
    """A lock was not given in the time that was allowed for it."""
    INTERRUPTED = "interrupted"
    """The statement took longer than it may, or somebody cancelled it."""
    TAKEN = "taken"
    """Another row has the place already: a unique or an exclusion constraint."""
    CODE = "code"
    """This code cannot, with any row: a table, column, function or privilege is missing."""
    ROW = "row"
    """This row cannot: a check, a trigger, a foreign key, a value."""


_BY_STATE = {
    "08": Fault.AWAY,  # connection exceptions
    "57P01": Fault.AWAY,  # admin shutdown
    "57P02": Fault.AWAY,  # crash shutdown
    "57P03": Fault.AWAY,  # cannot connect now
    "57P05": Fault.AWAY,  # idle session timeout
    "25P03": Fault.AWAY,  # idle-in-transaction session timeout
    "53300": Fault.AWAY,  # too many connections
    "25006": Fault.READ_ONLY,
    "40001": Fault.CONFLICT,  # serialization failure
    "40P01": Fault.CONFLICT,  # deadlock
    "55P03": Fault.LOCKED,
    "57014": Fault.INTERRUPTED,
    "23505": Fault.TAKEN,
    "23P01": Fault.TAKEN,
    "26000": Fault.CODE,  # no such prepared statement
    "42P05": Fault.CODE,  # prepared statement exists already
    "42501": Fault.CODE,  # insufficient privilege
    "42703": Fault.CODE,  # undefined column
    "42883": Fault.CODE,  # undefined function
    "42P01": Fault.CODE,  # undefined table
    "3F000": Fault.CODE,  # undefined schema
}
"""By SQLSTATE, or by its class of two characters."""

_EVERYONES = {Fault.AWAY, Fault.READ_ONLY}

_SQLITE_TAKEN = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}
_SQLITE = {
    sqlite3.SQLITE_BUSY: Fault.LOCKED,
    sqlite3.SQLITE_LOCKED: Fault.LOCKED,
    sqlite3.SQLITE_READONLY: Fault.READ_ONLY,
    sqlite3.SQLITE_INTERRUPT: Fault.INTERRUPTED,
    sqlite3.SQLITE_CANTOPEN: Fault.AWAY,
    sqlite3.SQLITE_FULL: Fault.AWAY,
    sqlite3.SQLITE_IOERR: Fault.AWAY,
    sqlite3.SQLITE_NOMEM: Fault.AWAY,
}
"""By primary result code."""
_SQLITE_CODE = (
    "no such table",
    "no such column",
    "no such function",
    "has no column named",
)


def fault_of(error: BaseException) -> Fault | None:
    """Return whose fault *error* is; None when it is none of the database's."""
    if isinstance(error, PoolTimeoutError):
        return Fault.AWAY  # no connection of the pool became free
    if not isinstance(error, DBAPIError):
        return None
    if error.connection_invalidated:
        return Fault.AWAY
    if isinstance(error.orig, sqlite3.Error):
        return _of_sqlite(error.orig)
    return _of_postgresql(error)


def is_away(error: BaseException) -> bool:
    """Return whether *error* is an outage, which concerns everybody and nobody in particular."""
    return fault_of(error) is Fault.AWAY


PASSING = frozenset(
    {Fault.AWAY, Fault.READ_ONLY, Fault.CONFLICT, Fault.LOCKED, Fault.INTERRUPTED}
)
"""What the same statement may not meet again."""


_KEY_QUERY = "SELECT 1 FROM ONLY "
"""How the query of a foreign key begins."""


def may_last(error: BaseException) -> bool:
    """Return whether code in the database named a fault that passes, for a row it may never let by.

    The server itself names what it waits for: a tuple, of a table or an index. A conflict that a
    foreign key meets comes with its query.
    """
    return fault_of(error) in PASSING and has_come_from_code(error)


def has_come_from_code(error: BaseException) -> bool:
    """Return whether code in the database raised *error* for a row, as far as can be told."""
    if not isinstance(error, DBAPIError) or not _came_from_code(error):
        return False
    context = _context_of(error)
    is_of_key = all(_KEY_QUERY in line for line in context.splitlines())
    return not is_of_key and "tuple" not in context


def will_pass(error: BaseException) -> bool:
    """Return whether a process that met *error* at its start may wait for a better moment.

    A server that refuses a connection gives no SQLSTATE, but words.
    """
    if fault_of(error) not in PASSING:
        return False
    original = getattr(error, "orig", None)
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorcode", None) != sqlite3.SQLITE_CANTOPEN
    return not is_wrong_address(error)


def is_wrong_address(error: BaseException) -> bool:
    """Return whether the server does not know the user, the database or the way to connect."""
    if not isinstance(error, DBAPIError) or isinstance(error.orig, sqlite3.Error):
        return False
    return (
        sqlstate_of(error) is None
        and _WRONG_ADDRESS.search(str(error.orig)) is not None
    )


_WRONG_ADDRESS = re.compile(
    r"authentication failed|does not exist|no pg_hba\.conf entry|no password|not permitted|"
    r"permission denied|invalid|SSL",
)
"""What a server says of a user, a database or a way to connect that it does not know."""


def sqlstate_of(error: SQLAlchemyError) -> str | None:
    """Return the SQLSTATE that PostgreSQL gave, if it gave one."""
    state: str | None = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state


def words_of(error: BaseException) -> str:
    """Return what the database itself said in *error*: without the statement and its values."""
    said = getattr(error, "orig", None) if isinstance(error, StatementError) else None
    diagnosis = getattr(said, "diag", None)
    words = str(getattr(diagnosis, "message_primary", None) or said or error)
    return without_values(error, words)


def _of_postgresql(error: DBAPIError) -> Fault:
    state = sqlstate_of(error)
    if state is not None:
        if _says_that_plan_is_old(error):
            return Fault.CONFLICT
        fault = _BY_STATE.get(state) or _BY_STATE.get(state[:2], Fault.ROW)
        return Fault.ROW if fault in _EVERYONES and _came_from_code(error) else fault
    # Without one, the driver says it itself, before a server could.
    says_away = type(error.orig).__name__ in {"OperationalError", "InterfaceError"}
    return Fault.AWAY if says_away else Fault.ROW


def _says_that_plan_is_old(error: DBAPIError) -> bool:
    """Return whether a table was altered since the driver prepared a statement on it.

    The driver prepares it anew after the rollback.
    """
    diagnosis = getattr(error.orig, "diag", None)
    return getattr(diagnosis, "source_function", None) == "RevalidateCachedQuery"


def _came_from_code(error: DBAPIError) -> bool:
    """Return whether code in the database raised *error*, and the session goes on.

    A trigger that asks another server may name any state. What the server says of itself it says
    as FATAL, or to the statement that was sent: ours do not call code that raises.
    """
    diagnosis = getattr(error.orig, "diag", None)
    is_error = getattr(diagnosis, "severity_nonlocalized", None) == "ERROR"
    return is_error and bool(_context_of(error))


def _context_of(error: DBAPIError) -> str:
    """Return what the server was doing for the statement when it met *error*."""
    diagnosis = getattr(error.orig, "diag", None)
    return getattr(diagnosis, "context", None) or ""


def _of_sqlite(error: sqlite3.Error) -> Fault:
    code = getattr(error, "sqlite_errorcode", None)
    if code in _SQLITE_TAKEN:
        return Fault.TAKEN
    if code is not None and (fault := _SQLITE.get(code & 0xFF)) is not None:
        return fault
    if any(said in str(error) for said in _SQLITE_CODE):
        return Fault.CODE
    return Fault.ROW

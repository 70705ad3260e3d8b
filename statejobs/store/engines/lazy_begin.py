"""Transactions that begin at the first write, so that reading pins and blocks nothing.

A connection in this mode answers plain SELECTs in autocommit. The first statement that writes or
locks opens the transaction: `BEGIN IMMEDIATE` on SQLite (a deferred one that reads and then writes
fails at once when another writer came between, whatever the busy timeout), `BEGIN` on PostgreSQL;
a savepoint on a connection that is borrowed from a user's transaction.
"""

from __future__ import annotations

import contextlib
import re
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Engine, event

from statejobs.store.engines.defaults import limits_of, send
from statejobs.store.engines.kept import KEPT, OURS, TransactionKeeper
from statejobs.store.engines.locking_reads import locks_rows
from statejobs.store.engines.savepoints import (
    SAVEPOINT,
    Borrowed,
    borrowed_of,
    lent_to,
    refuse_cut,
)

AUTOCOMMIT = "statejobs_autocommit"
"""Execution option of a single statement that is its own transaction."""
WITH_BEGIN = "statejobs_with_begin"
"""Execution option of a connection: SQL that is sent with the BEGIN of each transaction."""
ON_BEGIN = "statejobs_on_begin"
"""Execution option of a connection: called with it when a statement has begun its transaction.

What it raises ends the transaction, and the statement is not sent.
"""

_BEGUN = "statejobs_begun"
_LIFTED = "statejobs_lifted"
_STATEMENT = re.compile(r"^\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*(\w+)", re.DOTALL)
_LOCKS = re.compile(
    r"\bFOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|SHARE|KEY\s+SHARE)\b", re.IGNORECASE
)
_WRITES = re.compile(r"\b(?:INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)
_READS = {"SELECT", "VALUES", "WITH", "TABLE"}
_NEVER_BEGIN = {
    "PRAGMA",
    "EXPLAIN",
    "SHOW",
    "SET",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "RELEASE",
    "LISTEN",
    "UNLISTEN",
    "NOTIFY",
    "VACUUM",
    "ATTACH",
    "DETACH",
}


@lru_cache(maxsize=2048)
def needs_transaction(statement: str) -> bool:
    """Return whether *statement* writes or locks, as far as its text tells."""
    match = _STATEMENT.match(statement)
    word = match.group(1).upper() if match else ""
    if word in _NEVER_BEGIN:
        return False
    if word in _READS:
        writes = word == "WITH" and _WRITES.search(statement)
        return bool(writes or _LOCKS.search(statement))
    return True


def begin_lazily(engine: Engine, begin: str) -> None:
    """Make *engine*, whose driver does not begin by itself, send *begin* before the first write."""
    if event.contains(engine, "before_cursor_execute", _begin_before_write):
        return
    engine.update_execution_options(statejobs_begin=begin)
    event.listen(engine, "before_cursor_execute", _begin_before_write)


def begin_now(connection: Connection, *, then: str = "") -> None:
    """Open the transaction of a lazily beginning *connection* at once, for statements of ours.

    Args:
        connection: Of an engine that `begin_lazily` prepared, or of another, which is left alone.
        then: SQL that is sent with it, in the same round trip.
    """
    begin = connection.get_execution_options().get("statejobs_begin")
    if not begin:
        return
    if in_transaction(connection):
        lift_limits(connection)
        return
    keeper: TransactionKeeper | None = connection.get_execution_options().get(KEPT)
    if keeper is not None:
        keeper.check_begin()
    if begin == SAVEPOINT:
        _set_savepoint(connection)
        if keeper is not None:
            keeper.note_begun(is_open=True)
        return
    limits = limits_of(connection)
    with_begin = connection.get_execution_options().get(WITH_BEGIN)
    parts = [begin + limits.isolation, with_begin, limits.lift, then]
    options = {OURS: True}
    connection.exec_driver_sql(
        "; ".join(filter(None, parts)), execution_options=options
    )
    if keeper is not None:
        keeper.note_begun(is_open=True)
    connection.info[_BEGUN] = object()
    connection.info[_LIFTED] = True


def lift_limits(connection: Connection) -> None:
    """Take timeouts that the server has by default from the transaction that is open."""
    limits = limits_of(connection)
    if limits.timeouts and not connection.info.get(_LIFTED):
        connection.exec_driver_sql(limits.lift)
        connection.info[_LIFTED] = True


def impose_limits(connection: Connection) -> None:
    """Let statements that are not ours run under the timeouts that the server has by default."""
    limits = limits_of(connection)
    if limits.timeouts and connection.info.get(_LIFTED):
        connection.exec_driver_sql(limits.impose)
        connection.info[_LIFTED] = False


def in_transaction(connection: Connection) -> bool:
    """Return whether the database itself has a transaction open on *connection*."""
    driver: Any = connection.connection.driver_connection
    if isinstance(driver, Borrowed):
        return driver.is_begun
    if connection.dialect.name == "sqlite":
        return bool(driver.in_transaction)
    return int(driver.info.transaction_status) != 0


def last_begun(connection: Connection) -> object:
    """Return what stands for the last transaction that began on *connection*; None before it."""
    return connection.info.get(_BEGUN)


def _begin_before_write(
    connection: Connection,
    cursor: Any,
    statement: str,
    _parameters: Any,
    context: Any,
    _many: Any,
) -> None:
    said = {} if context is None else context.execution_options
    if said.get(AUTOCOMMIT):
        return
    keeper: TransactionKeeper | None = said.get(KEPT)
    if keeper is not None and not said.get(OURS):
        keeper.check(statement)
    if not (needs_transaction(statement) or _locks_unsaid(connection, context)):
        return
    if not in_transaction(connection):
        _begin(connection, cursor, keeper)


def _begin(
    connection: Connection, cursor: Any, keeper: TransactionKeeper | None
) -> None:
    options = connection.get_execution_options()
    is_part = options["statejobs_begin"] == SAVEPOINT
    if is_part:
        refuse_cut(lent_to(connection))
    if keeper is not None:
        keeper.check_begin()
    if is_part:
        _set_savepoint(connection)
    else:
        begin = options["statejobs_begin"] + limits_of(connection).isolation
        send(
            connection,
            cursor,
            "; ".join(filter(None, [begin, options.get(WITH_BEGIN)])),
        )
        connection.info[_BEGUN] = object()
        connection.info[_LIFTED] = False
    if keeper is not None:
        keeper.note_begun(is_open=True)
    if (on_begin := options.get(ON_BEGIN)) is not None:
        _tell_begun(connection, cursor, on_begin, keeper)


def _tell_begun(
    connection: Connection, cursor: Any, on_begin: Any, keeper: TransactionKeeper | None
) -> None:
    """Call *on_begin*; what it raises takes back what has just begun."""
    try:
        on_begin(connection)
    except BaseException:
        with contextlib.suppress(Exception):
            # a connection that is lost has no transaction
            if (borrowed := borrowed_of(connection)) is not None:
                borrowed.rollback()
            else:
                cursor.execute("ROLLBACK")
        if keeper is not None:
            keeper.note_begun(is_open=False)
        raise


def _set_savepoint(connection: Connection) -> None:
    """Begin a part of a transaction of the user's; its settings are his, and stay."""
    borrowed = lent_to(connection)
    # outside of one, SQLite would commit with the savepoint
    begin_now(borrowed.outer.connection)
    statement = borrowed.begin()
    try:
        connection.exec_driver_sql(statement)
    except BaseException:
        borrowed.outer.pop(borrowed)
        borrowed.lose()
        raise
    connection.info[_BEGUN] = object()


def _locks_unsaid(connection: Connection, context: Any) -> bool:
    """Return whether a read asks for locks that the text of SQLite has no words for."""
    return (
        connection.dialect.name == "sqlite"
        and context is not None
        and locks_rows(context)
    )

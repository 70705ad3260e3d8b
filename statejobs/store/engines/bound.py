"""An engine on one Connection of the user's, whose transaction it never ends.

What is a transaction elsewhere is a savepoint here. Statements that are not in one read, each as
if in autocommit.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    ExceptionContext,
    NullPool,
    PoolProxiedConnection,
    event,
)
from sqlalchemy.engine.base import OptionEngine

from statejobs.errors import StateJobsError
from statejobs.store.binds import refuse_autocommit
from statejobs.store.engines.defaults import send
from statejobs.store.engines.lazy_begin import begin_lazily, needs_transaction
from statejobs.store.engines.savepoints import (
    SAVEPOINT,
    Borrowed,
    borrowed_of,
    lent_to,
    outer_of,
    refuse_cut,
    refused_to_bound,
)

_CARRIED = ("schema_translate_map", "logging_token")
"""Execution options of the connection that hold for statements of ours."""
_IN_ERROR = 3
"""What the driver says of a transaction that can only be rolled back."""
_ENDS = re.compile(
    r"\s*(?:BEGIN|START|COMMIT|END|ABORT|ROLLBACK(?!\s+TO\b))\b", re.IGNORECASE
)
_OF_SAVEPOINTS = re.compile(r"\s*(?:SAVEPOINT|RELEASE|ROLLBACK)\b", re.IGNORECASE)


class BoundEngine(OptionEngine):
    """The engine of a Connection, as if that were the only one it may have."""

    def __init__(self, connection: Connection) -> None:
        """Make one; events of the engine hold for it too.

        Raises:
            ConfigurationError: The connection is in AUTOCOMMIT.
        """
        if not connection.closed:
            refuse_autocommit(connection)
        options = connection.get_execution_options()
        super().__init__(
            connection.engine,
            {name: options[name] for name in _CARRIED if name in options},
        )
        self.outer = outer_of(connection)
        self._lent = NullPool(self.outer.lend, dialect=self.dialect)
        begin_lazily(self, SAVEPOINT)
        event.listen(self, "before_cursor_execute", _before)
        event.listen(self, "after_cursor_execute", _after)
        if not event.contains(self.dialect, "handle_error", _on_error):
            # which is the user's
            event.listen(self.dialect, "handle_error", _on_error)
        event.listen(self, "release_savepoint", _refuse_overlap)
        event.listen(self, "rollback_savepoint", _refuse_overlap)
        if not event.contains(
            connection, "before_cursor_execute", _refuse_hidden_write
        ):
            event.listen(connection, "before_cursor_execute", _refuse_hidden_write)

    def raw_connection(self) -> PoolProxiedConnection:
        """Return the connection, for another part of its transaction."""
        return self._lent.connect()

    def dispose(self, close: bool = True) -> None:  # noqa: FBT001, FBT002 - SQLAlchemy's
        """Leave the pool alone: it is the user's."""


def bound_of(engine: Engine) -> BoundEngine | None:
    """Return *engine* if it is on one Connection."""
    return engine if isinstance(engine, BoundEngine) else None


def refuse_bound(engine: Engine, what: str, *, why: str) -> None:
    """Refuse what an app cannot do on one connection.

    Raises:
        ConfigurationError: *engine* has only one.
    """
    if bound_of(engine) is not None:
        raise refused_to_bound(what, why=why)


def refuse_worker(engine: Engine) -> None:
    """Refuse to work in threads on one connection.

    Raises:
        ConfigurationError: *engine* has only one.
    """
    refuse_bound(
        engine,
        "a worker (`running()`, `worker()`, `lifespan()`)",
        why="it claims, runs, commits and renews leases at once, on several connections",
    )


def _before(
    connection: Connection,
    _cursor: Any,
    statement: str,
    _parameters: Any,
    _context: Any,
    _many: Any,
) -> None:
    borrowed = lent_to(connection)
    borrowed.outer.check()
    refuse_cut(borrowed)
    if _ENDS.match(statement):
        (word, *_) = statement.split(maxsplit=1)
        raise StateJobsError(
            f"{word} is not for an app that is bound to one Connection, in whose "
            "transaction it works",
            fix="Call commit() or rollback() of the session",
        )
    if borrowed.outer.last is borrowed:
        return
    if borrowed.is_begun and needs_transaction(statement):
        borrowed.outer.refuse_unless_last(borrowed)
    if connection.dialect.name == "postgresql" and not borrowed.is_around_one:
        _protect(connection, borrowed)


def _protect(connection: Connection, borrowed: Borrowed) -> None:
    """Let a statement that fails fail alone: PostgreSQL would let the whole transaction fail."""
    if int(borrowed.info.transaction_status) == _IN_ERROR:
        raise StateJobsError(
            "a statement has failed in the transaction of the Connection that the "
            "app is bound to, and PostgreSQL takes no other before a rollback",
            fix=(
                "Where it may fail, put it into a savepoint: "
                "connection.begin_nested(), or a session that joins by "
                "create_savepoint"
            ),
        )
    try:
        send(connection, borrowed.cursor(), borrowed.begin_one())
    except BaseException:
        borrowed.is_around_one = False
        raise


def _after(connection: Connection, *_: object) -> None:
    lent_to(connection).end_one(keep=True)


def _on_error(context: ExceptionContext) -> None:
    connection = context.connection
    if (
        connection is None
        or connection.closed
        or connection.invalidated
        or context.is_disconnect
    ):
        return
    if (borrowed := borrowed_of(connection)) is not None:
        borrowed.end_one(keep=False)


def _refuse_overlap(connection: Connection, _name: str, _context: None) -> None:
    borrowed = lent_to(connection)
    if borrowed.is_begun:
        borrowed.outer.refuse_unless_last(borrowed)


def _refuse_hidden_write(
    connection: Connection,
    _cursor: Any,
    statement: str,
    _parameters: Any,
    _context: Any,
    _many: Any,
) -> None:
    """Refuse what a session of the user's writes inside of a part that may be rolled back."""
    outer = outer_of(connection)
    is_within = isinstance(outer.last, Borrowed)
    if (
        is_within
        and needs_transaction(statement)
        and not _OF_SAVEPOINTS.match(statement)
    ):
        outer.refuse_overlap()

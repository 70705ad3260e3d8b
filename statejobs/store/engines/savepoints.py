"""Parts of a transaction of the user's, each of which ends as if it were one by itself.

A part is a savepoint. They lie on one connection, one inside the other, so that they end in turn:
what would end one that others are inside of is refused, since the database would end those too.
"""

from __future__ import annotations

import threading
from itertools import count
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, event

from statejobs.awaited import IS_ASIDE
from statejobs.errors import ConfigurationError, StateJobsError

SAVEPOINT = "SAVEPOINT"
"""How what is a part of a user's transaction begins."""

_OUTER = "statejobs_outer"
_AROUND_ONE = "statejobs_one"


class Borrowed:
    """The connection of the driver, for one part of the transaction that is open on it."""

    def __init__(self, outer: Outer, driver: Any) -> None:
        self.outer = outer
        self._driver = driver
        self.thread = threading.current_thread()
        self.is_around_one = False
        """Whether a single statement is in a savepoint of its own."""
        self.is_cut = False
        """Whether it was taken from a body that goes on after its timeout."""
        self._savepoint: str | None = None
        self._was_lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    @property
    def is_begun(self) -> bool:
        """Whether its savepoint is set."""
        return self._savepoint is not None

    def begin(self) -> str:
        """Note that its savepoint is set by the SQL that is returned."""
        self._savepoint = self.outer.push(self)
        self._was_lost = False
        return f"SAVEPOINT {self._savepoint}"

    def lose(self) -> None:
        """Note that its savepoint is gone, by no act of its own."""
        self._was_lost |= self.is_begun
        self._savepoint = None

    def commit(self) -> None:
        """Keep what was done since the savepoint, for as long as the transaction around does.

        Raises:
            StateJobsError: It has gone with what was around it, or another is inside of it.
        """
        if self._was_lost:
            raise StateJobsError(
                "what was written here is gone",
                why=(
                    "a transaction around it, on the connection that the app is "
                    "bound to, was rolled back first"
                ),
            )
        if self._savepoint is None:
            return
        self.outer.refuse_unless_last(self)
        self._send(f"RELEASE SAVEPOINT {self._savepoint}")
        self.outer.pop(self)
        self._savepoint = None

    def rollback(self) -> None:
        """Undo what was done since the savepoint, and all that is inside of it."""
        self._was_lost = False
        if self._savepoint is None:
            return
        self.outer.pop(self)
        name = self._savepoint
        self._savepoint = None
        self._send(f"ROLLBACK TO SAVEPOINT {name}")
        self._send(f"RELEASE SAVEPOINT {name}")

    def close(self) -> None:
        """Leave the connection to whoever it was borrowed from."""
        self.rollback()

    def cut(self) -> None:
        """Undo what it did, and let it do no more."""
        self.rollback()
        self.is_cut = True

    def begin_one(self) -> str:
        """Note that a savepoint for a single statement is set by the SQL that is returned."""
        self.is_around_one = True
        return f"SAVEPOINT {_AROUND_ONE}"

    def end_one(self, *, keep: bool) -> None:
        """Remove the savepoint around a single statement, if there is one."""
        if not self.is_around_one:
            return
        self.is_around_one = False
        if not keep:
            self._send(f"ROLLBACK TO SAVEPOINT {_AROUND_ONE}")
        self._send(f"RELEASE SAVEPOINT {_AROUND_ONE}")

    def _send(self, statement: str) -> None:
        cursor = self._driver.cursor()
        cursor.execute(statement)
        cursor.close()


class Outer:
    """A connection of the user's, with the parts that are open in its transaction."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._open: list[Borrowed | str] = []
        """Innermost last; a savepoint of the user's that was set inside of ours is a name."""
        self._numbers = count(1)
        self._lent: WeakSet[Borrowed] = WeakSet()
        self._cut: WeakSet[threading.Thread] = WeakSet()
        event.listen(connection, "savepoint", self._note_savepoint)
        event.listen(connection, "release_savepoint", self._end_savepoint)
        event.listen(connection, "rollback_savepoint", self._end_savepoint)
        event.listen(connection, "commit", self._refuse_commit)
        event.listen(connection, "rollback", self._lose_all)

    @property
    def last(self) -> Borrowed | str | None:
        """What is innermost."""
        return self._open[-1] if self._open else None

    def lend(self) -> Borrowed:
        """Return the connection for a part that is still to begin.

        Raises:
            ConfigurationError: It cannot be used now, or not from here.
        """
        self.check()
        if IS_ASIDE.get():
            raise refused_to_bound(
                "a form for asyncio", why="it works in another thread"
            )
        if threading.current_thread() in self._cut:
            raise _cut_off()
        borrowed = Borrowed(self, self.connection.connection.dbapi_connection)
        self._lent.add(borrowed)
        return borrowed

    def check(self) -> None:
        """Refuse to work outside of a transaction.

        Raises:
            ConfigurationError: None is open, or the connection is closed.
        """
        if self.connection.closed or not self.connection.in_transaction():
            is_closed = self.connection.closed
            raise ConfigurationError(
                f"the connection of this app {'is closed' if is_closed else 'has no transaction'}",
                why="an app that is bound to one works inside its transaction, and never ends it",
                fix="call connection.begin() before, and roll back after the last use of the app",
            )

    def refuse_open(self) -> None:
        """Refuse to run jobs inside of a transaction that may still be rolled back.

        Raises:
            StateJobsError: A session of the app has written, and has not committed.
        """
        if self._open:
            raise StateJobsError(
                "a session of this app has written, and has not committed",
                why="jobs that run now would be part of its transaction",
                fix="Commit it, or roll it back, before",
            )

    def refuse_unless_last(self, borrowed: Borrowed) -> None:
        """Refuse what others are inside of.

        Raises:
            StateJobsError: Another savepoint was set after its own, and is open.
        """
        if self.last is not borrowed:
            raise _not_in_turn()

    def refuse_overlap(self) -> None:
        """Refuse what is of no part, while one is open.

        Raises:
            StateJobsError: One is.
        """
        if self._open:
            raise _not_in_turn()

    def push(self, borrowed: Borrowed) -> str:
        """Note a part that begins inside of all that are open; return the name of its savepoint."""
        self._open.append(borrowed)
        return f"statejobs_{next(self._numbers)}"

    def pop(self, borrowed: Borrowed) -> None:
        """Note that a part ends, and with it all that is inside of it."""
        while self._open:
            depth = len(self._open)
            last = self._open[-1]
            if isinstance(last, Borrowed):
                self._open.pop()
                if last is borrowed:
                    return
                last.lose()
                continue
            nested = self.connection.get_nested_transaction()
            if nested is not None:
                nested.rollback()  # whoever has it is told that it is gone
            del self._open[depth - 1 :]

    def cut_others(self) -> None:
        """Take the connection from all other threads, for good."""
        here = threading.current_thread()
        for borrowed in tuple(self._lent):
            if borrowed.thread is not here:
                self._cut.add(borrowed.thread)
                borrowed.cut()

    def _note_savepoint(self, _connection: Connection, name: str) -> None:
        if self._open:
            self._open.append(name)

    def _end_savepoint(
        self, _connection: Connection, name: str, _context: None
    ) -> None:
        if not self._open:
            return
        if self.last != name:
            raise _not_in_turn()
        self._open.pop()

    def _refuse_commit(self, _connection: Connection) -> None:
        self.refuse_overlap()

    def _lose_all(self, _connection: Connection) -> None:
        for each in self._open:
            if isinstance(each, Borrowed):
                each.lose()
        self._open.clear()


def outer_of(connection: Connection) -> Outer:
    """Return the one that all apps on *connection* share."""
    known: Outer | None = vars(connection).get(_OUTER)
    if known is None:
        known = vars(connection)[_OUTER] = Outer(connection)
    return known


def borrowed_of(connection: Connection) -> Borrowed | None:
    """Return what *connection* has borrowed; None where it has one of its own."""
    driver: Any = connection.connection.driver_connection
    return driver if isinstance(driver, Borrowed) else None


def lent_to(connection: Connection) -> Borrowed:
    """Return what *connection*, of an engine that is on one, has borrowed."""
    borrowed = borrowed_of(connection)
    assert borrowed is not None  # noqa: S101 - its engine gives nothing else
    return borrowed


def refuse_cut(borrowed: Borrowed) -> None:
    """Refuse to work for a body that was given up.

    Raises:
        StateJobsError: It was.
    """
    if borrowed.is_cut:
        raise _cut_off()


def refused_to_bound(what: str, *, why: str) -> ConfigurationError:
    """Return the error that an app which is bound to a Connection has no *what*."""
    return ConfigurationError(
        f"{what} is not for an app that is bound to one Connection",
        why=why,
        fix="call drain() in the thread of the test, or make the app of the engine or the URL",
    )


def _cut_off() -> StateJobsError:
    return StateJobsError(
        "this attempt went on after its timeout, and has no connection any more",
        fix="Let the body end when ctx.cancel_requested is true, or give it a longer timeout",
    )


def _not_in_turn() -> StateJobsError:
    return StateJobsError(
        "two transactions on the connection that the app is bound to overlap",
        why="they are savepoints, of which the one that began last ends first",
        fix=(
            "Commit or roll back the other one before; in the body of a job, "
            "write through ctx.session alone"
        ),
    )

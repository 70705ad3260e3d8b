"""Drivers that fail by chance: before a statement, after it took effect, or by hanging.

The connections are real ones, of subclasses of psycopg's and sqlite3's own, so that whatever
reads their attributes finds them.
"""

import random
import sqlite3
import threading
from collections import Counter

import psycopg
from sqlalchemy import create_engine, make_url

from statejobs import configure_sqlite
from statejobs.store.engines.factory import parse_url

KINDS = ("before", "after", "hang")


class Faults:
    """Decides at every statement, COMMIT and ROLLBACK whether it fails, and how."""

    def __init__(self, seed, *, rate, hang=0.05):
        """Set up; nothing fails before `on` is set.

        Args:
            seed: Of the chance; one thread repeats exactly.
            rate: Part of the calls that fail, from 0 to 1.
            hang: Seconds that a hanging call takes longer.
        """
        self.on = False
        self.counts = Counter()
        """(kind, what) -> how often; what is the first word of the statement."""
        self._rng, self._lock = random.Random(seed), threading.Lock()
        self._rate, self._hang, self._never = rate, hang, threading.Event()

    def reseed(self, rng):
        """Draw from *rng* from now on."""
        self._rng = rng

    def call(self, connection, what, call, *args, **kwargs):
        """Do *call*, perhaps badly."""
        kind = self._choose(what)
        if kind == "hang":
            self._never.wait(self._hang)
        if kind == "before":
            self._fail(connection, f"{what} was not sent")
        answer = call(*args, **kwargs)
        if kind == "after":
            self._fail(connection, f"the answer to {what} was lost")
        return answer

    def _choose(self, what):
        if not self.on:
            return None
        with self._lock:
            if self._rng.random() >= self._rate:
                return None
            kind = self._rng.choice(KINDS)
            self.counts[kind, what] += 1
            return kind

    def _fail(self, connection, why):
        connection.lose()
        error = connection.error(f"injected: {why}")
        if isinstance(error, sqlite3.Error):
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error


class Planned(Faults):
    """Faults that a test chooses: `plan["COMMIT"] = ["after"]` lets the next one fail so."""

    def __init__(self):
        super().__init__(0, rate=0)
        self.plan = {}

    def _choose(self, what):
        kinds = self.plan.get(what)
        return kinds.pop(0) if kinds else None


def faulty_engine(url, faults, *, pool_size=20):
    """An engine for statejobs whose connections fail as *faults* say."""
    parsed = parse_url(make_url(url))
    if parsed.get_backend_name() == "sqlite":
        creator = _sqlite_creator(parsed.database, faults)
        engine = create_engine(
            parsed, creator=creator, pool_size=pool_size, max_overflow=10
        )
        return configure_sqlite(engine, synchronous="NORMAL")
    return create_engine(
        parsed,
        creator=_psycopg_creator(parsed, faults),
        pool_size=pool_size,
        max_overflow=10,
        pool_use_lifo=True,
    )


def _word(statement):
    text = statement if isinstance(statement, str) else str(statement)
    return text.split(None, 1)[0].upper()


# SQLite: the connection outlives an error, and its transaction stays open ------------------------


def _sqlite_creator(path, faults):
    class Cursor(sqlite3.Cursor):
        def execute(self, statement, *args):
            call = super().execute
            return faults.call(
                self.connection, _word(statement), call, statement, *args
            )

        def executemany(self, statement, *args):
            call = super().executemany
            return faults.call(
                self.connection, _word(statement), call, statement, *args
            )

    class Connection(sqlite3.Connection):
        def cursor(self, factory=Cursor):
            return super().cursor(factory)

        def commit(self):
            faults.call(self, "COMMIT", super().commit)

        def rollback(self):
            faults.call(self, "ROLLBACK", super().rollback)

        def lose(self):
            """Nothing: no network lies between."""

        @staticmethod
        def error(why):
            """What a file says that cannot be read or written for the moment."""
            found = sqlite3.OperationalError(why)
            found.sqlite_errorcode = sqlite3.SQLITE_IOERR
            return found

    return lambda: sqlite3.connect(path, check_same_thread=False, factory=Connection)


# PostgreSQL: the connection is lost, and the server rolls back what was open ---------------------


def _psycopg_creator(url, faults):
    class Cursor(psycopg.Cursor):
        def execute(self, query, *args, **kwargs):
            call = super().execute
            return faults.call(
                self.connection, _word(query), call, query, *args, **kwargs
            )

        def executemany(self, query, *args, **kwargs):
            call = super().executemany
            return faults.call(
                self.connection, _word(query), call, query, *args, **kwargs
            )

    class Connection(psycopg.Connection):
        error = psycopg.OperationalError

        def commit(self):
            faults.call(self, "COMMIT", super().commit)

        def rollback(self):
            faults.call(self, "ROLLBACK", super().rollback)

        def lose(self):
            self.close()

    conninfo = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return lambda: Connection.connect(conninfo, cursor_factory=Cursor)

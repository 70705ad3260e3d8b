"""How workers reach their database: which connections they take, and what a transaction sets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta

from sqlalchemy import Connection, Engine

from statejobs.config import WorkerSettings
from statejobs.errors import ClosedError
from statejobs.store.engines.bound import bound_of
from statejobs.store.engines.defaults import limits_of
from statejobs.store.engines.factory import wake_workers
from statejobs.store.engines.idle import explain_idleness, limit_idleness
from statejobs.store.engines.lazy_begin import AUTOCOMMIT, begin_lazily, begin_now
from statejobs.store.engines.reserve import OF_LEASES, SHARED, Reserve, can_reserve
from statejobs.store.engines.turns import Turns
from statejobs.store.engines.witness import Witness
from statejobs.values.clock import Clock, SystemClock
from statejobs.values.redaction import DEFAULT, Redaction

TABLE_PATIENCE = timedelta(seconds=0.25)
"""How long what waits for no row waits for a table that somebody has locked, as to alter it."""


class Store:
    """The job tables of one database: opens connections, with what each is begun with.

    The modules beside it, one for each act, take it where an act is a transaction of its own, and
    else the connection on which they work. None of them reads a clock.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        settings: WorkerSettings | None = None,
        redaction: Redaction = DEFAULT,
        clock: Clock | None = None,
    ) -> None:
        self.engine = engine
        self.redaction = redaction
        """What is hidden in what is kept of errors, and in why jobs ended."""
        self._worker_settings = settings or WorkerSettings()
        self.dialect = engine.dialect.name
        self.witness = Witness(engine, (clock or SystemClock()).monotonic)
        self.working = working_engine(engine)
        """Reads in autocommit, begins at the first write; bodies of actions use this one."""
        self._own = self._of_leases = self.working
        self._bound = bound_of(engine)
        self.turns = Turns()
        """Where its writers wait for each other, when the database lets one write at a time."""
        takes_turns = self.dialect == "sqlite" and self._bound is None
        self._turn = self.turns.taken if takes_turns else nullcontext
        self._with_begin: dict[timedelta | None, str] = {}
        self.is_closed = False

    def refuse_open(self) -> None:
        """Refuse to run jobs inside of a transaction that a session of the app has open.

        Raises:
            StateJobsError: On the one connection that there is, they would be part of it.
        """
        if self._bound is not None:
            self._bound.outer.refuse_open()

    def cut_off(self) -> None:
        """Take the one connection, where there is only one, from a body that goes on too long."""
        if self._bound is not None:
            self._bound.outer.cut_others()

    def reserve_connections(self) -> None:
        """Keep connections for claims, outcomes and leases that no body and no app can take."""
        if self._own is self.working and can_reserve(self.engine):
            self._own = Reserve(self.working, most=SHARED, may_borrow=True)
            self._of_leases = Reserve(self.working, most=OF_LEASES)

    def close(self) -> None:
        """Close the connections beside the pool, watch those in it no more, and take none."""
        self.is_closed = True
        for engine in (self._own, self._of_leases):
            if isinstance(engine, Reserve):
                engine.close()
        self._own = self._of_leases = self.working
        self.witness.close()

    def refuse_closed(self) -> None:
        """Raise `ClosedError` after `close`, also on an engine that goes on for others."""
        if self.is_closed:
            raise ClosedError

    def _connect(self, engine: Engine) -> Connection:
        self.refuse_closed()
        with self.witness.trusting():
            return engine.connect()

    @contextmanager
    def transaction(
        self,
        *,
        flushes: bool = True,
        lock_timeout: timedelta | None = None,
        yields: bool = False,
        of_leases: bool = False,
    ) -> Iterator[Connection]:
        """Open a connection with a write transaction; commit at the end, roll back on error.

        Args:
            flushes: Whether the commit waits until it is on the disk of a PostgreSQL server.
            lock_timeout: How long a statement waits for a lock on PostgreSQL; None leaves it as
                the server has it. SQLite has its busy timeout.
            yields: Whether it gives up a lock before the server looks for a deadlock, so that
                whoever waits for this transaction goes on; the caller repeats it.
            of_leases: Whether it is one of those that are kept for leases.
        """
        engine = self._of_leases if of_leases else self._own
        with self._turn(), self._connect(engine) as connection:
            if yields:
                lock_timeout = limits_of(connection).patience * _MILLISECOND
            begin_now(connection, then=self._settings(flushes, lock_timeout))
            with _committed(connection):
                yield connection

    def _settings(self, flushes: bool, lock_timeout: timedelta | None) -> str:  # noqa: FBT001
        """Return what a transaction sets for itself, as SQL."""
        if not self._has_settings:
            return ""
        settings = [self.with_begin()]
        if not flushes:
            settings.append(_DO_NOT_FLUSH)
        if lock_timeout is not None:
            settings.append(f"SET LOCAL lock_timeout TO {lock_timeout // _MILLISECOND}")
        return "; ".join(settings)

    def with_begin(self, timeout: timedelta | None = None) -> str:
        """Return the SQL that is sent with BEGIN for a body that may take *timeout*."""
        known = self._with_begin.get(timeout)
        if known is None:
            if len(self._with_begin) >= _MOST_TIMEOUTS:  # a function may return any
                self._with_begin.clear()
            limit = limit_idleness(self._worker_settings.idle_limit(timeout))
            known = self._with_begin[timeout] = limit if self._has_settings else ""
        return known

    @property
    def _has_settings(self) -> bool:
        """Whether its transactions set something for themselves, which ends with them."""
        return self.dialect == "postgresql" and self._bound is None

    @property
    def has_one_writer(self) -> bool:
        """Whether one transaction writes at a time, so that none can be beside another."""
        return self.dialect == "sqlite" or self._bound is not None

    @property
    def has_arrays(self) -> bool:
        """Whether a statement takes arrays: one then moves records, ends jobs, writes history."""
        return self.dialect == "postgresql"

    @contextmanager
    def single(
        self, *, of_leases: bool = False, lock_timeout: timedelta | None = None
    ) -> Iterator[Connection]:
        """Open a connection for one statement that is its own transaction.

        Where the server's defaults are not for us, it gets one that is begun and committed.

        Args:
            of_leases: Whether it is one of those that are kept for leases.
            lock_timeout: As for `transaction`; on PostgreSQL that takes one around the statement.
        """
        if lock_timeout is not None and self.dialect == "postgresql":
            with self.transaction(
                lock_timeout=lock_timeout, of_leases=of_leases
            ) as connection:
                yield connection
            return
        with self._connect(self._of_leases if of_leases else self._own) as connection:
            if self._bound is None and not limits_of(connection):
                yield connection.execution_options(**{AUTOCOMMIT: True})
                return
            begin_now(connection)
            with _committed(connection):
                yield connection

    def wake(self) -> None:
        """Hint, after a commit, that there are jobs; a PostgreSQL server does so with it."""
        wake_workers(self.engine)

    def unwaiting(
        self, *, of_leases: bool = False
    ) -> AbstractContextManager[Connection]:
        """Open a connection for one statement that waits for no row, and briefly for a table."""
        return self.single(of_leases=of_leases, lock_timeout=TABLE_PATIENCE)


@contextmanager
def _committed(connection: Connection) -> Iterator[None]:
    """Commit what is done meanwhile, or roll it back."""
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def working_engine(engine: Engine) -> Engine:
    """Return *engine* as workers use it: reading in autocommit, beginning at the first write."""
    if engine.dialect.name == "sqlite" or bound_of(engine) is not None:
        return engine  # it was made so
    working = engine.execution_options(isolation_level="AUTOCOMMIT")
    begin_lazily(working, "BEGIN")
    explain_idleness(working)
    return working


_MILLISECOND = timedelta(milliseconds=1)
_DO_NOT_FLUSH = "SET LOCAL synchronous_commit TO off"
_MOST_TIMEOUTS = 256

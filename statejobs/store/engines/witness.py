"""Sees which connections of an engine are lost, at a glance and without asking the server.

Who takes a connection out of the pool learns so that it is dead before a statement is lost on it;
and when one is lost under a statement, this knows whether others, or the server, went with it.
"""

from __future__ import annotations

import select
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Dialect, Engine, ExceptionContext, event
from sqlalchemy.exc import InvalidatePoolError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from statejobs.store.engines.bound import bound_of
from statejobs.store.faults import is_away

Listeners = list[tuple[str, Callable[..., None]]]
"""Names of events with what hears them."""

_TOGETHER = 10.0
"""Seconds within which connections are lost together."""
_GRACE = 100  # milliseconds for the other ends to close, one after the other
_ASKED_AFTER = 0.005
"""Seconds in the pool after which the server is asked whether it still knows a connection."""
_MARK = "statejobs_lost_here"
_RESTED = "statejobs_rests_since"
_HUNG_UP = (
    getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR | select.POLLNVAL
)
_STARTED = "SELECT EXTRACT(EPOCH FROM clock_timestamp() - pg_postmaster_start_time())"


class Witness:
    """Watches the connections of one database."""

    def __init__(self, engine: Engine, monotonic: Callable[[], float]) -> None:
        self._engine = engine
        self._monotonic = monotonic
        self._connections: list[weakref.ref[Any]] = []
        self._losses: deque[float] = deque(maxlen=100)
        self._lock = threading.Lock()
        self._here = threading.local()
        self._of_engine = self._listeners_for(engine)
        _listen(engine, self._of_engine)

    def include(self, engine: Engine) -> None:
        """Watch the connections that *engine* makes from now on."""
        _listen(engine, self._listeners_for(engine))

    def close(self) -> None:
        """Watch no more: the engine may be a user's, and live on."""
        for name, listener in self._of_engine:
            event.remove(self._engine, name, listener)
        self._of_engine = []

    def _listeners_for(self, engine: Engine) -> Listeners:
        if engine.dialect.name != "postgresql" or bound_of(engine) is not None:
            return [("handle_error", self._note_error)]
        return [
            ("handle_error", self._note_error),
            ("connect", self._note_connection),
            ("checkin", self._note_rest),
            ("checkout", self._refuse_dead_of(engine.dialect)),
        ]

    @contextmanager
    def trusting(self) -> Iterator[None]:
        """Take connections out of the pool without asking the server, for what may be repeated.

        A look at the socket remains, which costs no round trip.
        """
        self._here.is_trusting = True
        try:
            yield
        finally:
            self._here.is_trusting = False

    def was_everyones(self, error: BaseException, *, within: float) -> bool:
        """Return whether *error*, an outage, met more than the connection that it names.

        Args:
            error: What was raised; an outage of another database is not everyone's.
            within: Seconds since the work began that met it: a server that is younger was lost.
        """
        if isinstance(error, PoolTimeoutError):
            return True
        is_ours = hasattr(error, _MARK)
        was_connected = getattr(error, _MARK, True)
        if is_ours and not (
            was_connected and self._engine.dialect.name == "postgresql"
        ):
            return True
        others = self._recent() - is_ours
        return (
            others > 0
            or self._finds_lost()
            or (is_ours and self._was_restarted(within))
        )

    def _note_connection(self, _dbapi_connection: Any, record: Any) -> None:
        with self._lock:
            self._connections = [ref for ref in self._connections if ref() is not None]
            self._connections.append(weakref.ref(record.driver_connection))

    def _note_rest(self, _dbapi_connection: Any, record: Any) -> None:
        record.info[_RESTED] = self._monotonic()

    def _note_error(self, context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        if error is None or not (context.is_disconnect or is_away(error)):
            return
        is_lost = context.connection is not None
        setattr(error, _MARK, is_lost)
        if is_lost:
            self._losses.append(self._monotonic())

    def _refuse_dead_of(self, dialect: Dialect) -> Callable[[Any, Any, Any], None]:
        def refuse_dead(dbapi_connection: Any, record: Any, _fairy: Any) -> None:
            """Raise before a connection is used whose other end is gone: the pool makes another."""
            rested_since = record.info.pop(_RESTED, None)
            if rested_since is None:
                return  # it is new
            if _hung_up([record.driver_connection], 0):
                self._losses.append(self._monotonic())
                raise InvalidatePoolError
            rested = self._monotonic() - rested_since
            if rested > _ASKED_AFTER and not getattr(self._here, "is_trusting", False):
                self._ask(dialect, dbapi_connection)

        return refuse_dead

    def _ask(self, dialect: Dialect, dbapi_connection: Any) -> None:
        try:
            dialect.do_ping(dbapi_connection)
        except dialect.loaded_dbapi.Error as error:
            self._losses.append(self._monotonic())
            raise InvalidatePoolError from error

    def _recent(self) -> int:
        since = self._monotonic() - _TOGETHER
        return sum(lost_at > since for lost_at in self._losses.copy())

    def _finds_lost(self) -> bool:
        with self._lock:
            connections = [ref() for ref in self._connections]
        return _hung_up(
            [c for c in connections if c is not None and not c.closed], _GRACE
        )

    def _was_restarted(self, within: float) -> bool:
        """Return whether the server is away, or began only after the work that it was lost to."""
        try:
            with self._engine.connect() as connection:
                age = float(connection.exec_driver_sql(_STARTED).scalar_one())
        except SQLAlchemyError:
            return True
        return age < within


def _listen(engine: Engine, listeners: Listeners) -> None:
    for name, listener in listeners:
        event.listen(engine, name, listener)


def _hung_up(connections: Iterable[Any], patience: int) -> bool:
    """Return whether the other end of one of *connections* is gone, after *patience* at most."""
    poll = select.poll()
    watched = 0
    for connection in connections:
        with suppress(Exception):  # closed since the look
            poll.register(connection.fileno(), _HUNG_UP)
            watched += 1
    return watched > 0 and bool(poll.poll(patience))

"""What PostgreSQL adds: a LISTEN connection. Losing every notification changes latency only."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy import select as sql_select

from statejobs.store.engines.channel import cancel_channel, wake_channel
from statejobs.store.engines.fresh import fresh_connection

log = logging.getLogger("statejobs.listen")

_FIRST_WAIT = 0.1  # seconds before it listens again


def read_prepare_threshold(engine: Engine) -> Engine:
    """Understand `?prepare_threshold=none` in the URL of *engine*; return it.

    Behind PgBouncer in transaction mode, the session that prepared a statement is not the one
    that gets the next. The driver takes the option as a number only, and URLs hold text.
    """

    def connect(
        _dialect: Any, _record: Any, _args: Any, options: dict[str, Any]
    ) -> None:
        given = options.get("prepare_threshold")
        if isinstance(given, str):
            options["prepare_threshold"] = (
                None if given.lower() == "none" else int(given)
            )

    event.listen(engine, "do_connect", connect)
    return engine


class PostgresListener:
    """Listens on a connection of its own and survives its loss."""

    def __init__(
        self,
        engine: Engine,
        on_wake: Callable[[], None],
        rng: Random,
        *,
        on_cancel: Callable[[str | None], None] = lambda _node: None,
    ) -> None:
        """Make one; `start` begins.

        Args:
            engine: The database.
            on_wake: Called when there may be work.
            rng: Chance, for the waits between tries.
            on_cancel: Called with the node of which a job is to stop; with None when anyone may
                have been told while nobody listened.
        """
        self._engine = engine
        self._on_wake = on_wake
        self._on_cancel = on_cancel
        self._rng = rng
        self._wait = _FIRST_WAIT
        self._stop_read = self._stop_write = -1
        self._thread = threading.Thread(
            target=self._run, name="statejobs-listen", daemon=True
        )

    def start(self) -> None:
        """Listen from now on."""
        try:
            self._stop_read, self._stop_write = os.pipe()
        except OSError as error:  # no descriptor: polling goes on
            log.debug("cannot listen: %s", error)
            return
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and close the connection."""
        if self._stop_write < 0:
            return  # never started
        os.write(self._stop_write, b"s")
        self._thread.join(timeout=5)
        os.close(self._stop_write)
        self._stop_write = -1

    def _run(self) -> None:
        with contextlib.closing(os.fdopen(self._stop_read)):
            while not self._is_stopped(0):
                try:
                    self._listen_until_lost()
                except Exception as error:  # noqa: BLE001 - whatever it is, polling goes on
                    log.debug("cannot listen: %s", error)
                    self._wait = min(self._wait * 2, 10)
                    self._is_stopped(self._wait * (0.5 + self._rng.random()))

    def _listen_until_lost(self) -> None:
        with fresh_connection(self._engine) as connection:
            wake, cancel = self._subscribe(connection)
            self._wait = _FIRST_WAIT
            # what was sent while nobody listened
            self._on_wake()
            self._on_cancel(None)
            self._listen(connection, wake, cancel)

    def _subscribe(self, connection: Any) -> Sequence[str]:
        connection.rollback()
        connection.autocommit = True
        names = sql_select(wake_channel(), cancel_channel())
        channels: Sequence[str] = connection.execute(
            str(names.compile(dialect=self._engine.dialect))
        ).fetchone()
        connection.execute(_MAY_BE_IDLE)
        for channel in channels:
            quoted = self._engine.dialect.identifier_preparer.quote_identifier(channel)
            connection.execute(f"LISTEN {quoted}")
        return channels

    def _listen(self, connection: Any, wake: str, cancel: str) -> None:
        try:
            while True:
                ready = _wait_for([connection.fileno(), self._stop_read], 60)
                if self._stop_read in ready:
                    return
                heard = list(connection.notifies(timeout=0))
                if any(one.channel == wake for one in heard):
                    self._on_wake()
                for node in {one.payload for one in heard if one.channel == cancel}:
                    self._on_cancel(node)
                if not ready:
                    # a half-open connection shows itself
                    connection.execute("SELECT 1")
        except Exception as error:  # noqa: BLE001 - a lost connection is made again
            log.debug("stopped listening: %s", error)

    def _is_stopped(self, timeout: float) -> bool:
        return bool(_wait_for([self._stop_read], timeout))


_MAY_BE_IDLE = """
SELECT set_config(name, '0', false) FROM pg_settings
WHERE name = 'idle_session_timeout' AND setting <> '0'
"""
"""Who listens asks nothing for hours; servers before 14 have no such setting."""


def _wait_for(descriptors: Sequence[int], timeout: float) -> set[int]:
    """Return those of *descriptors*, which may be above 1023, that can be read in time."""
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        return {key.fd for key, _ in selector.select(timeout)}

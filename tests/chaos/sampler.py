"""Looks at the invariant view all along, from a connection that no fault is aimed at."""

import threading
from datetime import timedelta

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from statejobs import StateJobs
from tests.chaos.fleet import now
from tests.chaos.invariants import violations

_MOST = 50  # violations that are kept


class Sampler:
    """A thread of snapshots."""

    def __init__(
        self, app: StateJobs, engine: Engine, *, every: float, window: float
    ) -> None:
        """Get ready.

        Args:
            app: Whose machines.
            engine: Where it looks.
            every: Seconds between snapshots.
            window: Only records that moved in the last so many seconds are compared.
        """
        self._app, self._engine, self._every = app, engine, every
        self._window = timedelta(seconds=window)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="chaos-sampler", daemon=True
        )
        self.samples = self.missed = 0
        self.found: list[dict] = []
        self.problem: Exception | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            try:
                self._look()
            except SQLAlchemyError:
                self.missed += 1  # the database is away
            except Exception as error:  # noqa: BLE001 - a blind sampler must not look like peace
                self.problem = error
                return

    def _look(self) -> None:
        at = now()
        with self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            seen = violations(connection, self._app, since=at - self._window)
        self.samples += 1
        if seen and len(self.found) < _MOST:
            self.found += [{"at": at.isoformat(), **row} for row in seen]

"""What the faults are done to."""

import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from statejobs import StateJobs
from statejobs.store.tables import jobs, nodes
from statejobs.values.job import JobState
from tests.chaos.app import Does
from tests.chaos.disk import Disk
from tests.chaos.fleet import Fleet, now, wait_until
from tests.chaos.plan import Fault, Plan
from tests.chaos.proxy import Proxy
from tests.chaos.standby import Standby
from tests.chaos.submitter import ACKNOWLEDGED, Dress, commit_surely, leave_as_they_are
from tests.support.postgres import PostgresServer

_PATIENCE = 120.0  # seconds; only a hang takes that long


@dataclass
class Field:
    """Everything that can be hurt, and what that showed."""

    app: StateJobs
    """Directly at the database, as `engine`."""
    plan: Plan
    fleet: Fleet
    engine: Engine
    """Directly to the database."""
    rng: Random
    server: PostgresServer | None = None
    standby: Standby | None = None
    proxy: Proxy | None = None
    disk: Disk | None = None
    done: Counter[Fault] = field(default_factory=Counter)
    paused: list[threading.Thread] = field(default_factory=list)
    """Who wakes whom: nothing that this process waits for may keep it from that."""
    illegal: list[str] = field(default_factory=list)
    away: list[tuple[datetime, datetime]] = field(default_factory=list)
    """From when to when the database was away for long, or its disk full."""
    deserted: list[tuple[datetime, datetime]] = field(default_factory=list)
    """From when to when no worker served."""
    deserted_since: datetime | None = None
    resume_seconds: list[float] = field(default_factory=list)
    """From the return of the database to the next finished job."""

    def wait(self, seconds: float) -> None:
        """Let time pass; the fallen are replaced meanwhile."""
        until = time.monotonic() + seconds
        while True:
            self.tend()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.2))  # noqa: TID251

    def tend(self) -> None:
        """Replace the fallen, and note who serves."""
        self.fleet.tend()
        self.look_who_serves()
        self._note_whether_deserted()

    def look_who_serves(self) -> None:
        """Note the processes that have registered; while the database is away, nothing is new."""
        with suppress(SQLAlchemyError), self.engine.connect() as connection:
            self.fleet.registered |= set(connection.scalars(select(nodes.c.pid)))

    def _note_whether_deserted(self) -> None:
        if not self.fleet.all_serving():
            self.deserted_since = self.deserted_since or now()
        elif self.deserted_since is not None:
            self.deserted.append((self.deserted_since, now()))
            self.deserted_since = None

    def wake_all(self) -> None:
        """Wait until nobody is paused any more."""
        while any(waker.is_alive() for waker in self.paused):
            self.wait(0.2)

    def until(self, holds):
        """Wait for something that can be hurt, and return it."""
        found = None

        def try_it() -> bool:
            nonlocal found
            found = holds()
            return bool(found)

        if not wait_until(try_it, within=_PATIENCE, tend=self.tend):
            raise TimeoutError(
                "for two minutes no worker was there to hurt: see the workers' logs"
            )
        return found

    def has_finished_after(self, at: datetime) -> bool:
        """Return whether a job completed after *at*; False while the database is away."""
        finished = select(func.count()).where(
            jobs.c.state == JobState.COMPLETED.value, jobs.c.finished_at > at
        )
        try:
            with self.engine.connect() as connection:
                return bool(connection.scalar(finished))
        except SQLAlchemyError:
            return False

    def submit(
        self, errands: dict[str, Does], dress: Dress = leave_as_they_are
    ) -> None:
        """Enqueue *errands* beside those of the submitters, *dress*ed before the commit."""
        with (self.fleet.directory / "acks-faults").open("a") as acks:
            answer = commit_surely(self.app, errands, acks, dress)
            acks.writelines(f"{answer} {id_}\n" for id_ in errands)

    def note_submitted(self, record: str) -> None:
        """Note that a record which is no errand was committed."""
        with (self.fleet.directory / "acks-faults").open("a") as acks:
            acks.write(f"{ACKNOWLEDGED} {record}\n")

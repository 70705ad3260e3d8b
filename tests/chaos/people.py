"""People who, meanwhile, cancel what waits or runs, and mend what has failed."""

import threading
from random import Random

from sqlalchemy import ColumnElement, select, true, update
from sqlalchemy.exc import SQLAlchemyError

from statejobs import StateJobs
from statejobs.errors import NotFoundError, StateJobsError, TransitionRefusedError
from statejobs.store.tables import jobs
from statejobs.values.job import JobState
from tests.chaos.app import RESOURCES, Errand, Gift, State
from tests.chaos.invariants import IS_UNREAD

_OPEN = (State.QUEUED, State.PROCESSING)


class People:
    """A thread of clicks; what the database or a race refuses is tried again, or was too late."""

    def __init__(
        self, app: StateJobs, rng: Random, *, every: float, cancels: float
    ) -> None:
        """Get ready.

        Args:
            app: Where they click.
            rng: What they choose.
            every: Seconds between looks.
            cancels: Chance of a cancel at each look.
        """
        self._app, self._rng, self._every, self._cancels = app, rng, every, cancels
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="chaos-people", daemon=True
        )
        self.cancelled = self.mended = self.refused = 0

    def start(self) -> None:
        """Begin to click."""
        self._thread.start()

    def stop_cancelling(self) -> None:
        """From now on, only mend."""
        self._cancels = 0.0

    def stop(self) -> None:
        """Go home."""
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            try:
                self._look()
            except SQLAlchemyError:
                continue  # the database is away
            except (StateJobsError, TransitionRefusedError):
                self.refused += 1  # somebody was faster

    def _look(self) -> None:
        self._make_readable()
        for resource in RESOURCES:
            self._mend(resource)
        self._cancel_unread()
        if self._rng.random() < self._cancels:
            self._cancel(self._rng.choice([Errand, Errand, Gift]))

    def _make_readable(self) -> None:
        """Mend the rows that no ORM can load, once their job has failed."""
        table = Errand.__table__
        failed = table.c.state == State.FAILED
        with self._app.engine.begin() as connection:
            connection.execute(
                update(table).where(failed, table.c.note.is_not(None)).values(note=None)
            )

    def _cancel_unread(self) -> None:
        """Give up the errands whose job's row could not be read."""
        with self._app.session() as session:
            unread = select(jobs.c.record_id).where(IS_UNREAD)
            ids = [record_id.strip('"') for record_id in session.scalars(unread)]
            waiting = select(Errand).where(
                Errand.id.in_(ids), Errand.state == State.QUEUED
            )
            for errand in session.scalars(waiting).all():
                errand.cancel()
            session.commit()

    def _mend(self, resource) -> None:
        """Most by the transition, some by the job, as the command line does."""
        with self._app.session() as session:
            failed = session.scalars(
                select(resource)
                .where(resource.state == State.FAILED, _can_be_loaded(resource))
                .limit(20)
            ).all()
            by_job = [record for record in failed if self._rng.random() < 0.1]
            for record in set(failed) - set(by_job):
                record.mend()
            session.commit()
        self.mended += len(failed) - len(by_job)
        for record in by_job:
            self._retry_job(resource, record.id)

    def _retry_job(self, resource, record: str) -> None:
        found = self._app.queries.jobs(
            states=[JobState.DISCARDED, JobState.CANCELLED],
            resource=resource.__name__,
            record_id=f'"{record}"',
        )
        for job in found[:1]:
            try:
                self._app.retry_job(job.id)
            except NotFoundError:
                continue
            self.mended += 1

    def _cancel(self, resource) -> None:
        with self._app.session() as session:
            wanted = self._rng.choice(_OPEN)
            found = session.scalars(
                select(resource)
                .where(resource.state == wanted, _can_be_loaded(resource))
                .limit(20)
            )
            records = found.all()
            if not records:
                return
            self._rng.choice(records).cancel()
            session.commit()
        self.cancelled += 1


def _can_be_loaded(resource) -> ColumnElement[bool]:
    return Errand.note.is_(None) if resource is Errand else true()

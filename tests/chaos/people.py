"""People who, meanwhile, cancel what waits or runs, and mend what has failed."""

import threading
from random import Random

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from statejobs import StateJobs
from statejobs.domain.job import JobState
from statejobs.errors import NotFoundError, StateJobsError, TransitionRefusedError
from tests.chaos.app import Errand, Gift, State

_OPEN = (State.QUEUED, State.PROCESSING)


class People:
    """A thread of clicks; what the database or a race refuses is tried again, or was too late."""

    def __init__(self, app: StateJobs, rng: Random, *, every: float, cancels: float) -> None:
        """Get ready.

        Args:
            app: Where they click.
            rng: What they choose.
            every: Seconds between looks.
            cancels: Chance of a cancel at each look.
        """
        self._app, self._rng, self._every, self._cancels = app, rng, every, cancels
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-people", daemon=True)
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
        for resource in (Errand, Gift):
            self._mend(resource)
        if self._rng.random() < self._cancels:
            self._cancel(self._rng.choice([Errand, Errand, Gift]))

    def _mend(self, resource) -> None:
        """Most by the transition, some by the job, as the command line does."""
        with self._app.session() as session:
            failed = session.scalars(
                select(resource).where(resource.state == State.FAILED).limit(20)
            ).all()
            by_job = [record for record in failed if self._rng.random() < 0.1]
            for record in set(failed) - set(by_job):
                record.mend()
            session.commit()
        self.mended += len(failed) - len(by_job)
        for record in by_job:
            self._retry_job(resource, record.id)

    def _retry_job(self, resource, record: str) -> None:
        jobs = self._app.queries.jobs(
            states=[JobState.DISCARDED, JobState.CANCELLED],
            resource=resource.__name__,
            record_id=f'"{record}"',
        )
        for job in jobs[:1]:
            try:
                self._app.retry_job(job.id)
            except NotFoundError:
                continue
            self.mended += 1

    def _cancel(self, resource) -> None:
        with self._app.session() as session:
            wanted = self._rng.choice(_OPEN)
            found = session.scalars(select(resource).where(resource.state == wanted).limit(20))
            records = found.all()
            if not records:
                return
            self._rng.choice(records).cancel()
            session.commit()
        self.cancelled += 1

"""An application whose users and workers meet a bad database, and try again."""

from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from statejobs import (
    Domain,
    StaleTransitionError,
    StateJobs,
    TransitionRefusedError,
    WorkerSettings,
)
from statejobs.store.engines.factory import open_engine
from tests.support.faulty_dbapi import faulty_engine
from tests.support.parcels import contradictions
from tests.support.rounds import Errand, S, effects

DOES = ("own", "write", "fail", "snooze", "cancel", "nothing")
"""What errands do, in turn; the last are dropped, if no worker is faster."""
LEASE = timedelta(seconds=1.5)


class Office:
    """The app on a database that fails, and the same database seen through a sound engine."""

    def __init__(self, url, faults, **options):
        self.faults = faults
        self.app = self._open(faulty_engine(url, faults), options)
        self.sound = self._open(open_engine(url), {})
        self.sound.create_all()
        with self.app.engine.connect():
            """Let the dialect look around in peace."""
        self.keys = range(0)

    def _open(self, engine, options):
        settings = WorkerSettings(
            lease=LEASE,
            heartbeat=timedelta(seconds=0.3),
            rescue=timedelta(seconds=0.2),
            poll=timedelta(seconds=0.1),
            shutdown_grace=timedelta(seconds=5),
        )
        domain = Domain("errands", resources=[Errand])
        return StateJobs(
            engine, domains=[domain], queues={"work": 10}, settings=settings, **options
        )

    def close(self):
        self.faults.on = False
        self.app.engine.dispose()
        self.sound.engine.dispose()

    # Users: each call looks before it acts, so that it may be repeated ---------------------------

    def send(self, number):
        """Create and submit errands of every kind, and drop some."""
        self.keys = range(1, number + 1)
        for key in self.keys:
            self.insist(lambda session, key=key: self._create(session, key))
            self.insist(lambda session, key=key: self._submit(session, key))
            if DOES[key % len(DOES)] == "nothing":
                self.insist(lambda session, key=key: self._drop(session, key))

    def mend(self):
        """Retry what was cancelled."""
        for key in self.unfinished(S.FAILED):
            self.insist(lambda session, key=key: self._retry(session, key))

    def insist(self, act):
        """Call *act* with a session and commit, until the database bears it."""
        for _ in range(100):
            try:
                with self.app.session() as session:
                    act(session)
                    session.commit()
            except (SQLAlchemyError, StaleTransitionError):
                continue
            except TransitionRefusedError:  # a worker was faster
                return
            return
        raise AssertionError("a hundred tries were not enough")

    def _create(self, session, key):
        if session.get(Errand, key) is None:
            session.add(Errand(id=key, does=DOES[key % len(DOES)]))

    def _submit(self, session, key):
        errand = session.get_one(Errand, key)
        if errand.state is S.NEW:
            errand.submit()

    def _drop(self, session, key):
        errand = session.get_one(Errand, key)
        if errand.state is S.QUEUED:
            errand.drop()

    def _retry(self, session, key):
        errand = session.get_one(Errand, key)
        if errand.state is S.FAILED:
            errand.retry()

    # Looking, through the sound engine -----------------------------------------------------------

    def unfinished(self, *states):
        """Keys of errands in *states*; of those that are to go on, by default."""
        wanted = states or (S.NEW, S.QUEUED, S.RUNNING, S.FAILED)
        with self.sound.session() as session:
            return list(
                session.scalars(select(Errand.id).where(Errand.state.in_(wanted)))
            )

    def problems(self):
        """What was lost, what was doubled, and what contradicts itself."""
        found = contradictions(self.sound, kinds=(Errand,))
        counts = effects(self.sound)
        with self.sound.session() as session:
            errands = session.scalars(select(Errand).order_by(Errand.id)).all()
        if [errand.id for errand in errands] != list(self.keys):
            found.append(f"{len(errands)} errands of {len(self.keys)}")
        for errand in errands:
            ran = errand.state is S.DONE
            left = counts.get(f"errand {errand.id}", 0)
            if errand.runs != ran or left != (ran and errand.does != "own"):
                found.append(
                    f"{errand.id} {errand.does}: {errand.state}, ran {errand.runs} times"
                )
        live = [
            job
            for job in self.sound.queries.jobs(limit=10_000)
            if job.finished_at is None
        ]
        return [*found, *(f"job {job.id} is {job.state}" for job in live)]


@contextmanager
def office(url, faults, **options):
    opened = Office(url, faults, **options)
    try:
        yield opened
    finally:
        opened.close()

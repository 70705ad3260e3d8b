"""An application whose users and workers meet a bad database, and try again."""

from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Cancel,
    Domain,
    JobContext,
    Snooze,
    StaleTransitionError,
    StatefulResource,
    StateJobs,
    TransitionRefusedError,
    Trigger,
    WorkerSettings,
    state_column,
    transition,
)
from statejobs.store.engines.factory import open_engine
from tests.support.faulty_dbapi import faulty_engine
from tests.support.parcels import contradictions

DOES = ("own", "session", "fail", "snooze", "cancel", "drop")
BACKOFF = timedelta(seconds=0.05)
LEASE = timedelta(seconds=1.5)


class Base(DeclarativeBase): ...


class Effect(Base):
    __tablename__ = "effects"
    id: Mapped[int] = mapped_column(primary_key=True)
    errand_id: Mapped[int]


class S(StrEnum):
    NEW = "new"
    QUEUED = "queued"
    SENDING = "sending"
    DONE = "done"
    LOST = "lost"
    DROPPED = "dropped"


class Errand(StatefulResource, Base):
    __tablename__ = "errands"

    id: Mapped[int] = mapped_column(primary_key=True)
    does: Mapped[str]
    runs: Mapped[int] = mapped_column(default=0)
    is_mended: Mapped[bool] = mapped_column(default=False)
    state: Mapped[S] = state_column(S, initial=S.NEW, final=(S.DONE, S.DROPPED))

    run = Trigger.on_demand(
        "errand.run", max_attempts=100, max_crashes=100, backoff=BACKOFF
    )

    @transition(S.NEW, S.QUEUED, run_trigger=run)
    def submit(self) -> None: ...

    @run.action(S.QUEUED, S.DONE, during=S.SENDING, failed=S.LOST)
    def go(self, ctx: JobContext) -> None:
        self.runs += 1
        if self.does != "own":
            ctx.session.add(Effect(errand_id=self.id))
        if self.does == "session":
            ctx.session.flush()
        if self.does == "fail" and ctx.attempt == 1:
            raise ValueError("the first time it fails")
        if self.does == "snooze" and "snoozed" not in ctx.checkpoint:
            ctx.checkpoint["snoozed"] = True
            raise Snooze(BACKOFF)
        if self.does == "cancel" and not self.is_mended:
            raise Cancel("not yet")

    @transition(S.LOST, S.QUEUED, run_trigger=run)
    def retry(self) -> None:
        self.is_mended = True

    @transition([S.NEW, S.QUEUED], S.DROPPED)
    def drop(self) -> None: ...


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
        return StateJobs(engine, domains=[domain], settings=settings, **options)

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
            if DOES[key % len(DOES)] == "drop":
                self.insist(lambda session, key=key: self._drop(session, key))

    def mend(self):
        """Retry what was cancelled."""
        for key in self.unfinished(S.LOST):
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
        if errand.state is S.LOST:
            errand.retry()

    # Looking, through the sound engine -----------------------------------------------------------

    def unfinished(self, *states):
        """Keys of errands in *states*; of those that are to go on, by default."""
        wanted = states or (S.NEW, S.QUEUED, S.SENDING, S.LOST)
        with self.sound.session() as session:
            return list(
                session.scalars(select(Errand.id).where(Errand.state.in_(wanted)))
            )

    def problems(self):
        """What was lost, what was doubled, and what contradicts itself."""
        found = contradictions(self.sound, kinds=(Errand,))
        with self.sound.session() as session:
            counts = dict(
                session.execute(
                    select(Effect.errand_id, func.count()).group_by(Effect.errand_id)
                ).all()
            )
            errands = session.scalars(select(Errand).order_by(Errand.id)).all()
        if [errand.id for errand in errands] != list(self.keys):
            found.append(f"{len(errands)} errands of {len(self.keys)}")
        for errand in errands:
            ran = errand.state is S.DONE
            if errand.runs != ran or counts.get(errand.id, 0) != (
                ran and errand.does != "own"
            ):
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

"""What has run and is not recorded yet is bounded, and nothing of it is left behind at a stop."""

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    ChunkContext,
    Domain,
    StatefulResource,
    StateJobs,
    Trigger,
    WorkerSettings,
    state_column,
    task,
)
from statejobs.runner.calls import calls_of
from statejobs.runner.crash_points import CrashPoint
from statejobs.runner.finisher import Finisher
from statejobs.runner.lane import Lane
from statejobs.store.tables import jobs
from tests.support.parcels import close_app
from tests.support.processes import DEADLINE, eventually

A_WHILE = 0.5  # seconds in which more would have run
LIMIT, BATCH = 3, 4
PLACES = LIMIT + 2 * BATCH
BEST_FIRST = "ORDER BY statejobs_jobs.priority"
"""What only a claim says."""


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    NEW = "new"
    DONE = "done"


ran = []
"""Bodies that have run, by what they are called."""


@task("place.plain", queue="work")
def plain() -> None:
    ran.append("plain")


@task("place.awaits", queue="work")
async def awaits(ctx: AsyncJobContext) -> None:
    ran.append("awaits")


@task("place.other", queue="other")
async def other(ctx: AsyncJobContext) -> None:
    ran.append("other")


class Five(StatefulResource, Base):
    """Five of them are run in one call."""

    __tablename__ = "fives"

    id: Mapped[int] = mapped_column(primary_key=True)
    run = Trigger.on_demand("five.run", queue="work", chunk=5)
    state: Mapped[S] = state_column(S, initial=S.NEW, final=(S.DONE,), run_trigger=run)

    @run.action(S.NEW, S.DONE)
    @staticmethod
    def run_all(records: Sequence["Five"], ctx: ChunkContext) -> None:
        ran.extend(["five"] * len(records))


class Score(StatefulResource, Base):
    """A call of it has more records than there are places."""

    __tablename__ = "scores"

    id: Mapped[int] = mapped_column(primary_key=True)
    run = Trigger.on_demand("score.run", queue="work", chunk=20)
    state: Mapped[S] = state_column(S, initial=S.NEW, final=(S.DONE,), run_trigger=run)

    @run.action(S.NEW, S.DONE)
    @staticmethod
    def run_all(records: Sequence["Score"], ctx: ChunkContext) -> None:
        ran.extend(["score"] * len(records))


class Gate:
    """Lets commits of successes wait, those of batches or the others."""

    def __init__(self):
        self.is_open = threading.Event()
        self.refuses_batches = False

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        """Let a worker end whatever the test met."""
        self.is_open.set()

    def reach(self, point):
        if point is not CrashPoint.FINISH_BEFORE_COMMIT:
            return
        if threading.current_thread().name != "statejobs-commit":
            return
        if self.refuses_batches:
            raise ValueError("each by itself, please")
        assert self.is_open.wait(DEADLINE)

    def holding(self, try_finish):
        """Let each that is finished by itself wait, before it has locked anything."""

        def wait_and_finish(finisher, ending, **options):
            assert self.is_open.wait(DEADLINE)
            return try_finish(finisher, ending, **options)

        return wait_and_finish


@pytest.fixture
def gate(monkeypatch):
    """It is shut."""
    gate = Gate()
    monkeypatch.setattr(Finisher, "try_finish", gate.holding(Finisher.try_finish))
    return gate


@pytest.fixture
def app(database_url, gate):
    """An app whose commits wait for the gate."""
    del ran[:]
    opened = StateJobs(
        database_url,
        domains=[
            Domain("places", resources=[Five, Score], tasks=[plain, awaits, other])
        ],
        queues={"work": LIMIT, "other": 1},
        settings=WorkerSettings(finish_batch=BATCH, poll=timedelta(seconds=0.1)),
        reach=gate.reach,
    )
    opened.create_all()
    yield opened
    gate.is_open.set()
    close_app(opened)


def ask(app, kind, number):
    """Commit jobs of a task, or records with theirs."""
    with app.session() as session:
        if kind in {plain, awaits, other}:
            kind.enqueue_many(session, [{}] * number)
        else:
            session.add_all([kind() for _ in range(number)])
        session.commit()


def counts(app):
    """How many jobs are in each state, however they got there."""
    with app.session() as session:
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        return dict(session.execute(query).all())


# While it runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("refuses_batches", [False, True], ids=["together", "singly"])
@pytest.mark.parametrize("kind", [plain, awaits], ids=["def", "async def"])
def test_no_body_runs_while_too_many_wait_for_their_commit(
    app, gate, kind, refuses_batches
):
    gate.refuses_batches = refuses_batches
    ask(app, kind, 10 * PLACES)

    with app.running(), gate:
        eventually(lambda: len(ran) == PLACES)
        time.sleep(A_WHILE)  # noqa: TID251 - what should not happen would happen now
        assert len(ran) == PLACES
        gate.is_open.set()
        eventually(lambda: counts(app) == {"completed": 10 * PLACES})

    assert len(ran) == 10 * PLACES


def test_the_records_of_a_call_count_one_by_one(app, gate):
    ask(app, Five, 50)

    with app.running(), gate:
        eventually(lambda: len(ran) == 10)
        time.sleep(A_WHILE)  # noqa: TID251
        assert len(ran) == 10
        gate.is_open.set()
        eventually(lambda: counts(app) == {"completed": 50})


def test_a_call_larger_than_all_places_runs_when_nothing_else_is_unrecorded(app, gate):
    ask(app, Score, 60)

    with app.running(), gate:
        eventually(lambda: len(ran) == 20)
        time.sleep(A_WHILE)  # noqa: TID251
        assert len(ran) == 20
        gate.is_open.set()
        eventually(lambda: counts(app) == {"completed": 60})

    assert len(ran) == 60


def test_the_event_loop_serves_other_queues_while_one_has_no_place(app, gate):
    ask(app, awaits, 2 * PLACES)

    with app.running(), gate:
        eventually(lambda: ran.count("awaits") == PLACES)
        ask(app, other, 1)
        eventually(lambda: "other" in ran)
        assert ran.count("awaits") == PLACES
        gate.is_open.set()
        eventually(lambda: counts(app) == {"completed": 2 * PLACES + 1})


def test_what_has_no_place_is_given_back_and_not_claimed_again_at_once(app, gate):
    ask(app, plain, 10 * PLACES)
    claims = []
    event.listen(
        app.engine,
        "before_cursor_execute",
        lambda _c, _cursor, text, *_: (
            claims.append(text) if BEST_FIRST in text else None
        ),
    )

    def is_quiet():
        del claims[:]
        time.sleep(A_WHILE)  # noqa: TID251 - what should not happen would happen now
        return not claims and counts(app).get("processing") == PLACES

    with app.running(), gate:
        eventually(lambda: len(ran) == PLACES)
        eventually(is_quiet)
        gate.is_open.set()
        eventually(lambda: counts(app) == {"completed": 10 * PLACES})


def test_a_lane_has_room_again_when_places_are_free(app):
    ask(app, plain, 6)
    runner = app.runner()
    claims = runner.claim("work", limit=6)
    started = []
    lane = Lane(
        "work",
        2,
        most_ahead=10,
        most_together=1,
        on_low=lambda: None,
        start_server=lambda _lane, is_async: started.append(is_async),
    )
    lane.put(calls_of(claims))
    taken = [lane.take(is_async=False) for _ in range(6)]

    assert [call is None for call in taken] == [False] * 4 + [True] * 2
    assert lane.room(0.0) == 0
    del started[:]
    lane.free(1)
    assert started == [False]
    assert lane.take(is_async=False) == (claims[4],)
    for claim in claims:
        runner.finisher.release(claim)


# At a stop ---------------------------------------------------------------------------------------


def stop_behind(worker, grace):
    """Stop *worker* in a thread; return the thread, and the list of what `stop` returned."""
    said = []
    thread = threading.Thread(
        target=lambda: said.append(worker.stop(timedelta(seconds=grace)))
    )
    thread.start()
    return thread, said


def test_a_stop_waits_for_what_has_run_to_be_recorded(app, gate):
    ask(app, plain, 10 * PLACES)
    worker = app.worker()
    worker.start()
    eventually(lambda: len(ran) == PLACES)

    thread, said = stop_behind(worker, grace=DEADLINE)
    thread.join(A_WHILE)
    assert thread.is_alive()
    gate.is_open.set()
    thread.join(DEADLINE)

    assert said == [True]
    assert counts(app) == {"completed": PLACES, "queued": 9 * PLACES}


def test_a_stop_gives_back_what_was_not_recorded_within_the_grace(app, gate):
    ask(app, plain, 10 * PLACES)
    worker = app.worker()
    worker.start()
    eventually(lambda: len(ran) == PLACES)

    thread, said = stop_behind(worker, grace=0.1)
    eventually(lambda: worker._crew._committer._is_stopping)
    gate.is_open.set()
    thread.join(DEADLINE)

    assert said == [True]
    found = counts(app)
    assert set(found) == {"completed", "queued"}
    assert found["completed"] <= BATCH  # those whose commit was under way
    with app.session() as session:
        attempts = session.scalars(
            select(jobs.c.attempt).where(jobs.c.state == "queued")
        )
        assert set(attempts) == {0}


def test_a_stop_that_leaves_a_job_behind_says_so(app, gate, caplog):
    gate.is_open.set()
    ask(app, plain, 1)
    worker = app.worker({"other": 1})
    worker.start()
    # nobody holds it, as when a claim's answer is lost
    worker._runner.claim("work", limit=1)

    assert worker.stop() is False
    assert "could not be given back" in caplog.text

"""Fan-out: when children that end at once ask for their parent, it starts exactly once."""

import contextlib
import random
import threading
from datetime import timedelta
from enum import StrEnum

import pytest
from sqlalchemy import ForeignKey, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from statejobs import (
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    WorkerSettings,
    state_column,
)
from statejobs.store.staging import stage_due
from tests.support.clock import ManualClock, manual_sources
from tests.support.processes import eventually

CHILDREN = 50
MANY = 10_000
LEASE = timedelta(seconds=30)
begun = []
"""Parents whose action was called."""


class DiedError(BaseException):
    """The process ended here."""


class Meeting:
    """Where the children wait for each other, so that they end at once."""

    barrier = threading.Barrier(1)


class Base(DeclarativeBase): ...


class S(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Whole(StatefulResource, Base):
    __tablename__ = "wholes"

    id: Mapped[int] = mapped_column(primary_key=True)
    parts: Mapped[list["Piece"]] = relationship(back_populates="whole")
    state: Mapped[S] = state_column(S, initial=S.WAITING, final=[S.DONE])
    join = Trigger.on_demand("whole.join", max_attempts=MANY, max_crashes=MANY)

    def has_all(self) -> bool:
        """Some are missing."""
        return all(part.state is S.DONE for part in self.parts)

    @join.action(S.WAITING, S.DONE, during=S.RUNNING, failed=S.FAILED, guard=has_all)
    def run_join(self, ctx: JobContext) -> None:
        begun.append(self.id)


class Piece(StatefulResource, Base):
    __tablename__ = "pieces"

    id: Mapped[int] = mapped_column(primary_key=True)
    whole_id: Mapped[int] = mapped_column(ForeignKey("wholes.id"), index=True)
    whole: Mapped[Whole] = relationship(back_populates="parts")
    make = Trigger.on_demand("piece.make", max_attempts=MANY, max_crashes=MANY)
    state: Mapped[S] = state_column(
        S, initial=S.WAITING, final=[S.DONE], run_trigger=make
    )

    @make.action(S.WAITING, S.DONE, during=S.RUNNING, failed=S.FAILED)
    def run_make(self, ctx: JobContext) -> None:
        whole = self.whole
        Meeting.barrier.wait(30)
        Whole.run_join.enqueue(ctx.session, whole)


@pytest.fixture
def app(database_url):
    begun.clear()
    app = StateJobs(
        database_url,
        domains=[Domain("wholes", resources=[Whole, Piece])],
        queues={"default": CHILDREN},
    )
    app.create_all()
    yield app
    app.close()


def test_a_parent_starts_exactly_once_when_its_children_end_at_once(app):
    Meeting.barrier = threading.Barrier(CHILDREN)
    with app.session() as session:
        session.add(Whole(parts=[Piece() for _ in range(CHILDREN)]))
        session.commit()

    with app.running():
        eventually(lambda: state_of(app) is S.DONE)

    assert begun == [1]
    assert [t["name"] for t in app.queries.transitions("Whole", "1")].count(
        "run_join.complete"
    ) == 1
    with app.session() as session:
        count = select(func.count()).where(Piece.state == S.DONE)
        assert session.scalar(count) == CHILDREN
    assert {str(job.state) for job in app.queries.jobs(limit=200)} == {"completed"}


def test_a_parent_that_is_asked_for_too_early_waits_and_spends_no_attempt(app):
    Meeting.barrier = threading.Barrier(1)
    with app.session() as session:
        session.add(Whole(parts=[Piece(), Piece()]))
        session.commit()

    app.step(1)
    app.step(1)  # the other child, or the parent, which is refused
    app.drain()

    assert begun == [1]
    assert state_of(app) is S.DONE


@pytest.mark.parametrize("children", [1, 2, 12])
def test_a_parent_is_done_exactly_once_though_nodes_die_at_any_point(
    database_url, seed, children
):
    begun.clear()
    Meeting.barrier = threading.Barrier(1)
    rng = random.Random(seed)
    clock = ManualClock()

    def die_by_chance(_point):
        if rng.random() < 0.15:
            raise DiedError

    app = StateJobs(
        database_url,
        domains=[Domain("wholes", resources=[Whole, Piece])],
        settings=WorkerSettings(lease=LEASE),
        sources=manual_sources(clock),
        reach=die_by_chance,
    )
    app.create_all()
    with app.session() as session:
        session.add(Whole(parts=[Piece() for _ in range(children)]))
        session.commit()

    rounds = 0
    while state_of(app) is not S.DONE:
        rounds += 1
        assert rounds < 500, app.queries.jobs()
        clock.advance(seconds=LEASE.total_seconds() + 1)
        with contextlib.suppress(DiedError):
            live_for_a_while(app, rng)

    told = [t["name"] for t in app.queries.transitions("Whole", "1")]
    assert told.count("run_join.complete") == 1
    assert set(begun) == {1}
    with app.session() as session:
        assert {part.state for part in session.get_one(Whole, 1).parts} == {S.DONE}
    app.close()


def live_for_a_while(app, rng):
    """Be a node that rescues, claims and runs, until it dies or has run what it claimed."""
    runner = app.runner()
    stage_due(app.store, ["default"], runner.work.keys(), app.sources.clock.now())
    runner.rescue()
    for claim in runner.claim("default", limit=rng.randint(1, 8)):
        runner.run(claim)


def state_of(app):
    with app.session() as session:
        return session.get_one(Whole, 1).state

"""`on_discard` tells of the end of a job, and of nothing else."""

from enum import StrEnum

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    Domain,
    JobContext,
    JobState,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
)
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import close_app


class Base(DeclarativeBase):
    """The user's base."""


class PollState(StrEnum):
    WAITING = "waiting"


TOLD: list[str] = []


class Poll(StatefulResource, Base):
    """Rests in its source whatever its job does."""

    __tablename__ = "polls"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[PollState] = state_column(PollState, initial=PollState.WAITING)

    ask = Trigger.on_demand("poll.ask", max_attempts=1)

    @ask.action(PollState.WAITING, PollState.WAITING)
    def do_ask(self, ctx: JobContext) -> None:
        raise ValueError("no answer")

    @ask.on_discard
    def gave_up(self, session: Session, reason: str) -> None:
        TOLD.append(reason)


@pytest.fixture
def app(database_url):
    TOLD.clear()
    opened = StateJobs(
        database_url,
        domains=[Domain("polls", resources=[Poll])],
        sources=manual_sources(ManualClock()),
    )
    opened.create_all()
    yield opened
    close_app(opened)


def ask(app):
    with app.session() as session:
        poll = session.get(Poll, 1) or Poll(id=1)
        session.add(poll)
        Poll.do_ask.enqueue(session, poll)
        session.commit()


def test_a_job_that_goes_on_tells_nobody_that_it_gave_up(app):
    ask(app)
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)
    ask(app)  # while it runs

    runner.run(claim)

    (job,) = app.queries.jobs()
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)
    assert TOLD == []

    app.drain()

    assert app.queries.job(job.id).state is JobState.DISCARDED
    assert TOLD == ["failed: ValueError: no answer"]

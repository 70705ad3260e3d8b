"""`retry_job` goes a declared way back, or says which argument or loop is missing."""

import asyncio
from enum import StrEnum

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    JobContext,
    JobState,
    StatefulResource,
    StateJobs,
    TransitionRefusedError,
    Trigger,
    acting_as,
    state_column,
    tenant,
    transition,
)
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import close_app


class S(StrEnum):
    QUEUED = "queued"
    PAID = "paid"
    FAILED = "failed"


def awaited():
    async def again(self):
        await asyncio.sleep(0)
        self.note = "awaited"

    return again


def called():
    def again(self):
        self.note = "called"

    return again


def called_otherwise():
    def otherwise(self):
        self.note = "called otherwise"

    return otherwise


def needs():
    def again(self, why: str):
        self.note = why

    return again


def needs_async():
    async def again(self, why: str):
        self.note = why

    return again


def has_default():
    def again(self, why: str = "no reason"):
        self.note = why

    return again


def never(_self):
    """The office is closed."""
    return False


def bill(name, first, second=None, guard=None):
    """A resource with one or two ways back from failed, of which the first has *guard*."""

    class Base(DeclarativeBase):
        """The user's base."""

    class Bill(StatefulResource, Base):
        __tablename__ = name
        __resource__ = name

        id: Mapped[int] = mapped_column(primary_key=True)
        note: Mapped[str | None]
        pay = Trigger.on_demand(f"{name}.pay", max_attempts=1)
        state: Mapped[S] = state_column(
            S, initial=S.QUEUED, final=(S.PAID,), run_trigger=pay
        )

        @pay.action(S.QUEUED, S.PAID, failed=S.FAILED)
        def send_money(self, ctx: JobContext) -> None:
            raise ValueError("no")

        again = transition(S.FAILED, S.QUEUED, run_trigger=pay, guard=guard)(first)
        if second is not None:
            otherwise = transition(S.FAILED, S.QUEUED, run_trigger=pay)(second)

    return Bill


KINDS = {
    "awaited": bill("awaited", awaited()),
    "called": bill("called", called()),
    "needs": bill("needs", needs()),
    "needs_async": bill("needs_async", needs_async()),
    "default": bill("default", has_default()),
    "another": bill("another", needs(), called_otherwise()),
    "guarded": bill("guarded", called(), called_otherwise(), guard=never),
}


@pytest.fixture
def app(database_url):
    opened = StateJobs(
        database_url,
        domains=[Domain("bills", resources=list(KINDS.values()))],
        sources=manual_sources(ManualClock()),
    )
    opened.create_all()
    yield opened
    close_app(opened)


def failed(app, name):
    """Commit a bill whose only attempt failed; return the id of its job."""
    with app.session() as session:
        session.add(KINDS[name]())
        session.commit()
    app.drain()
    (job,) = app.queries.jobs(resource=name)
    assert job.state is JobState.DISCARDED
    return job.id


def note(app, name):
    with app.session() as session:
        return session.get_one(KINDS[name], 1).note


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("called", "called"),
        ("awaited", "awaited"),
        ("default", "no reason"),
        ("another", "called otherwise"),
        ("guarded", "called otherwise"),
    ],
)
def test_a_declared_way_that_needs_nothing_is_taken(app, name, left):
    job_id = failed(app, name)

    assert app.retry_job(job_id) is JobState.QUEUED

    assert note(app, name) == left


@pytest.mark.parametrize("name", ["needs", "needs_async"])
def test_a_way_that_needs_an_argument_is_refused_by_the_name_of_both(app, name):
    job_id = failed(app, name)

    with pytest.raises(
        TransitionRefusedError, match=r"'again' needs 'why'.*\.again\(why=…\)"
    ):
        app.retry_job(job_id)

    assert app.queries.job(job_id).state is JobState.DISCARDED


def test_an_async_way_is_refused_inside_of_a_loop_with_what_to_do(app):
    job_id = failed(app, "awaited")

    async def retry():
        with pytest.raises(TransitionRefusedError, match=r"asyncio\.to_thread"):
            app.retry_job(job_id)
        return await asyncio.to_thread(app.retry_job, job_id)

    assert asyncio.run(retry()) is JobState.QUEUED


def test_a_retry_leaves_its_actor_to_the_job_and_names_who_retried_in_history(app):
    with app.session() as session, acting_as("customer:7"), tenant("north"):
        session.add(KINDS["called"]())
        session.commit()
    app.drain()
    (job,) = app.queries.jobs(resource="called")

    with acting_as("operator:1"):
        app.retry_job(job.id)

    retried = app.queries.job(job.id)
    assert (retried.actor, retried.tenant) == ("customer:7", "north")
    last = app.queries.transitions("called", "1")[-1]
    assert (last["name"], last["actor"]) == ("again", "operator:1")

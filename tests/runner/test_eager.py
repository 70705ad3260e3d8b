"""Records that are loaded together with others, which two jobs of a batch may share."""

from enum import StrEnum

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from statejobs import (
    AsyncJobContext,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
)
from tests.support.clock import manual_sources
from tests.support.parcels import close_app


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    NEW = "new"
    GREETED = "greeted"


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Visit(StatefulResource, Base):
    __tablename__ = "visits"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer] = relationship(lazy="joined")
    greeting: Mapped[str | None]
    state: Mapped[S] = state_column(S, initial=S.NEW, final=(S.GREETED,))

    greet = Trigger.on_demand("visit.greet")
    wave = Trigger.on_demand("visit.wave")

    @greet.action(S.NEW, S.GREETED)
    def say_hello(self, ctx: JobContext) -> None:
        self.greeting = f"Hello {self.customer.name}"

    @wave.action(S.NEW, S.GREETED)
    async def wave_at(self, ctx: AsyncJobContext) -> None:
        self.greeting = f"Waves at {self.customer.name}"


@pytest.fixture
def app(database_url, clock):
    opened = StateJobs(
        database_url,
        domains=[Domain("shop", resources=[Visit])],
        sources=manual_sources(clock),
    )
    opened.create_all()
    yield opened
    close_app(opened)


def visit_twice(app, action):
    """Commit two visits of one customer, each with a job of *action*."""
    with app.session() as session:
        customer = Customer(name="Ada")
        visits = [Visit(customer=customer), Visit(customer=customer)]
        session.add_all(visits)
        action.enqueue_many(session, visits)
        session.commit()


def greetings(app):
    with app.session() as session:
        return [visit.greeting for visit in session.query(Visit).order_by(Visit.id)]


def test_two_jobs_at_once_may_share_an_object_that_is_loaded_with_their_records(app):
    visit_twice(app, Visit.say_hello)
    runner = app.runner()
    now = app.sources.clock.now()
    runs = [c.work.open([c], now) for c in runner.claim("default", limit=2)]

    endings = [run.endings(run.call()) for run in runs]

    assert [end.changes for (end,) in endings] == [{"greeting": "Hello Ada"}] * 2
    for run in runs:
        run.close()


@pytest.mark.parametrize(
    ("action", "greeting"),
    [(Visit.say_hello, "Hello Ada"), (Visit.wave_at, "Waves at Ada")],
)
def test_an_action_finds_what_its_mapping_loads_with_the_record(app, action, greeting):
    visit_twice(app, action)

    assert app.drain().counts == {"complete": 2}
    assert greetings(app) == [greeting, greeting]

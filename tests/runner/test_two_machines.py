"""An action fires transitions of another machine: all of it commits, or none."""

from enum import StrEnum

import pytest
from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
    transition,
)
from tests.support.shop import read_history, read_jobs, shop_engine


class Base(DeclarativeBase): ...


class S(StrEnum):
    OPEN = "open"
    SENT = "sent"
    DONE = "done"


class Place(Base):
    __tablename__ = "two_places"
    id: Mapped[int] = mapped_column(primary_key=True)


class Order(StatefulResource, Base):
    __tablename__ = "two_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[int]
    ship = Trigger.on_demand("two.ship", max_attempts=1)
    ship_later = Trigger.on_demand("two.ship_later", max_attempts=1)
    state: Mapped[S] = state_column(S, initial=S.OPEN)

    @ship.action(S.OPEN, S.SENT)
    def run_ship(self, ctx: JobContext) -> None:
        ctx.session.add(sent(self))

    @ship_later.action(S.OPEN, S.SENT)
    async def run_ship_later(self, ctx: AsyncJobContext) -> None:
        ctx.session.add(sent(self))


class Parcel(StatefulResource, Base):
    __tablename__ = "two_parcels"

    id: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[int] = mapped_column(
        ForeignKey("two_places.id", deferrable=True, initially="DEFERRED")
    )
    post = Trigger.on_demand("two.post")
    state: Mapped[S] = state_column(S, initial=S.OPEN)

    @transition(S.OPEN, S.SENT, run_trigger=post)
    def send(self) -> None: ...

    @post.action(S.SENT, S.DONE)
    def run_post(self, ctx: JobContext) -> None: ...


def sent(order):
    parcel = Parcel(place=order.place)
    parcel.send()
    return parcel


@pytest.fixture
def app(database_url):
    domain = Domain("two", resources=[Order, Parcel])
    with (
        shop_engine(database_url, Base) as engine,
        StateJobs(engine, domains=[domain]) as opened,
    ):
        with opened.session() as session:
            session.add(Place(id=1))
            session.commit()
        yield opened


def enqueue(app, action, *, place):
    with app.session() as session:
        order = Order(place=place)
        session.add(order)
        getattr(Order, action).enqueue(session, order)
        session.commit()


def states(app, cls):
    with app.session() as session:
        return session.scalars(select(cls.state)).all()


ACTIONS = pytest.mark.parametrize("action", ["run_ship", "run_ship_later"])


@ACTIONS
def test_both_records_move_in_one_commit_and_the_job_of_the_other_runs(app, action):
    enqueue(app, action, place=1)

    drained = app.drain(raise_errors=True)

    assert drained.counts == {"complete": 2}
    assert (states(app, Order), states(app, Parcel)) == ([S.SENT], [S.DONE])
    assert [name for name, *_ in read_history(app.engine)][:4] == [
        "create",
        "create",
        "send",
        f"{action}.complete",
    ]


@ACTIONS
def test_when_the_commit_fails_neither_record_moves(app, action):
    enqueue(app, action, place=404)

    drained = app.drain()

    assert drained.counts == {"discard": 1}
    assert "foreign key" in drained.tracebacks[0].lower()
    assert (states(app, Order), states(app, Parcel)) == ([S.OPEN], [])
    assert [job.key for job in read_jobs(app.engine)] == [drained.jobs[0].key]
    assert read_history(app.engine) == [("create", None, "open")]

"""Sessions of the user may have another driver than the workers: asyncpg."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from statejobs import Domain, Enqueued, StaleTransitionError, StateJobs, acting_as
from tests.support.processes import eventually
from tests.support.shop import Base, Order, S

pytest.importorskip("asyncpg")


@pytest.fixture
def app(postgres_url):
    domain = Domain("shop", resources=[Order])
    with StateJobs(postgres_url, domains=[domain], queues={"payments": 1}) as app:
        app.create_all()
        Base.metadata.create_all(app.engine)
        yield app


@pytest.fixture
def run_async(app):
    """Run a function that takes a maker of sessions over asyncpg."""

    def run(use):
        async def main():
            engine = create_async_engine(
                app.engine.url.set(drivername="postgresql+asyncpg")
            )
            try:
                return await use(async_sessionmaker(engine, expire_on_commit=False))
            finally:
                await engine.dispose()

        return asyncio.run(main())

    return run


async def submit(make_session, total=1):
    async with make_session() as session:
        order = Order(total=total)
        session.add(order)
        order.submit()
        await session.commit()
        return order.id


def test_what_it_commits_is_run_by_the_workers_of_the_app(app, run_async):
    with acting_as("user:7"):
        key = run_async(submit)

    with app.running():
        eventually(lambda: app.queries.job(1).state == "completed")

    rows = app.queries.transitions("Order", str(key))
    assert {row["actor"] for row in rows} == {"user:7"}
    assert rows[-1]["target"] == S.COMPLETED


def test_the_second_of_two_sessions_is_told_that_it_is_stale(run_async):
    async def race(make_session):
        key = await submit(make_session)
        async with make_session() as first, make_session() as second:
            orders = [await session.get_one(Order, key) for session in (first, second)]
            for order in orders:
                order.cancel("first come")
            await first.commit()
            with pytest.raises(StaleTransitionError):
                await second.commit()

    run_async(race)


def test_it_enqueues_an_action(app, run_async):
    async def ask_again(make_session):
        key = await submit(make_session)
        async with make_session() as session:
            order = await session.get_one(Order, key)
            asked = await Order.process_payment.enqueue_async(session, order)
            await session.commit()
        return asked.outcome

    assert run_async(ask_again) is Enqueued.COALESCED
    assert [job.state for job in app.queries.jobs()] == ["queued"]

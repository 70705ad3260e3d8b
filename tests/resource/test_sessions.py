"""Any Session or AsyncSession, with any binds that lead to one database."""

import asyncio

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from statejobs import BindMismatchError, Enqueued, configure_sqlite
from statejobs.store.engines.factory import async_url
from statejobs.store.tables import jobs
from tests.resource.support import charges
from tests.support.shop import (
    Base,
    Order,
    S,
    new_order,
    read_history,
    read_jobs,
    shop_engine,
)


@pytest.fixture
def run_async(engine):
    """Run a function that takes an AsyncSession on the database of `engine`."""

    def run(use):
        async def main():
            opened = create_async_engine(async_url(engine))
            if engine.dialect.name == "sqlite":
                configure_sqlite(opened.sync_engine)
            try:
                async with AsyncSession(opened, expire_on_commit=False) as session:
                    return await use(session)
            finally:
                await opened.dispose()

        return asyncio.run(main())

    return run


def test_an_async_session_enqueues_with_its_flush(engine, run_async):
    async def submit(session):
        order = Order(total=1)
        session.add(order)
        order.submit()
        await session.commit()
        return order

    order = run_async(submit)

    assert charges(engine) == [(order.id, "queued")]
    assert (order.state, order.state_version) == (S.QUEUED, 1)


def test_an_async_session_rolls_back_a_savepoint(engine, run_async):
    order_id = new_order(engine)

    async def try_to_submit(session):
        order = await session.get(Order, order_id)
        savepoint = await session.begin_nested()
        order.submit()
        await session.flush()
        await savepoint.rollback()
        await session.commit()

    run_async(try_to_submit)

    assert read_jobs(engine) == []


def test_an_async_session_enqueues_an_action(engine, run_async):
    order_id = new_order(engine, submitted=True)

    async def enqueue(session):
        order = await session.get(Order, order_id)
        result = await Order.process_payment.enqueue_async(session, order)
        await session.commit()
        return result

    result = run_async(enqueue)

    assert result.outcome is Enqueued.COALESCED
    assert result.job_id == read_jobs(engine)[0].id


def test_a_scoped_session_works(engine):
    scoped = scoped_session(sessionmaker(engine))
    scoped.add(order := Order(total=1))
    order.submit()
    scoped.commit()

    assert charges(engine) == [(order.id, "queued")]
    scoped.remove()


def test_a_session_bound_to_a_connection_works(engine):
    with engine.connect() as connection, Session(connection) as session:
        session.add(order := Order(total=1))
        order.submit()
        session.commit()
        connection.commit()

    assert read_history(engine)[-1] == ("submit", "draft", "queued")


def test_a_session_that_knows_only_the_models_works(engine):
    with Session(binds={Base: engine}) as session:
        session.add(order := Order(total=1))
        order.submit()
        session.commit()

        assert charges(engine) == [(order.id, "queued")]


def test_two_databases_are_refused_with_both_named(engine, tmp_path):
    with (
        shop_engine(f"sqlite:///{tmp_path}/elsewhere.db") as elsewhere,
        Session(binds={Order: engine, jobs: elsewhere}) as session,
    ):
        session.add(order := Order(total=1))
        order.submit()

        with pytest.raises(BindMismatchError) as refused:
            session.commit()
        session.rollback()

        assert str(refused.value) == (
            f"Order is bound to {engine.url!r}, but the job tables to {elsewhere.url!r}: "
            "a transition and its job must commit in one transaction. "
            "Bind both to the same engine, or give the session one bind"
        )
        assert read_jobs(engine) == read_jobs(elsewhere) == []


def test_an_engine_with_other_options_is_the_same_database(engine):
    chosen = engine.execution_options(logging_token="web")
    with Session(binds={Base: chosen, jobs: engine}) as session:
        session.add(order := Order(total=1))
        order.submit()
        session.commit()

    assert len(read_jobs(engine)) == 1


def test_a_sqlite_engine_that_was_not_configured_works_for_one_writer(tmp_path):
    with shop_engine(f"sqlite:///{tmp_path}/plain.db") as engine:
        plain = create_engine(engine.url)
        with Session(plain) as session:
            session.add(order := Order(total=1))
            order.submit()
            session.commit()

            assert charges(engine) == [(order.id, "queued")]
        plain.dispose()

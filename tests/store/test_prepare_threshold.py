"""`?prepare_threshold=` in a URL, which PgBouncer in transaction mode needs."""

import asyncio

import pytest
from sqlalchemy import make_url

from statejobs.store.engines.asyncio import open_async_engine
from statejobs.store.engines.factory import open_engine


@pytest.fixture(params=[("none", None), ("7", 7)])
def engine_and_threshold(request, postgres_url):
    given, expected = request.param
    engine = open_engine(
        make_url(postgres_url).update_query_dict({"prepare_threshold": given})
    )
    yield engine, expected
    engine.dispose()


@pytest.mark.postgres
def test_reaches_the_driver(engine_and_threshold):
    engine, expected = engine_and_threshold

    with engine.connect() as connection:
        assert connection.connection.driver_connection.prepare_threshold == expected


@pytest.mark.postgres
def test_reaches_the_driver_of_async_actions(engine_and_threshold):
    engine, expected = engine_and_threshold

    async def threshold():
        async_engine = open_async_engine(engine)
        async with async_engine.connect() as connection:
            raw = await connection.get_raw_connection()
            found = raw.driver_connection.prepare_threshold
        await async_engine.dispose()
        return found

    assert asyncio.run(threshold()) == expected

"""Migrations of SQLite happen whole or not at all."""

import asyncio

import pytest
from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine

from statejobs import ConfigurationError, configure_sqlite
from statejobs.alembic import atomic_migrations


def plain(url):
    engine = create_engine(url)
    event.listen(
        engine, "connect", lambda driver, _: driver.execute("PRAGMA foreign_keys = ON")
    )
    return engine


def configured(url):
    return configure_sqlite(create_engine(url))


@pytest.fixture(params=[plain, configured])
def engine(request, sqlite_url):
    engine = request.param(sqlite_url)
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE parents (id INTEGER PRIMARY KEY, state TEXT)",
            "CREATE TABLE children (id INTEGER PRIMARY KEY, "
            "parent INTEGER REFERENCES parents (id) ON DELETE CASCADE)",
            "INSERT INTO parents VALUES (1, 'lost')",
            "INSERT INTO children VALUES (1, 1)",
        ):
            connection.execute(text(statement))
    yield engine
    engine.dispose()


def copy_table(connection, condition="true"):
    """What a batch of Alembic does to change a constraint."""
    for statement in (
        f"CREATE TABLE copy (id INTEGER PRIMARY KEY, state TEXT CHECK ({condition}))",
        "INSERT INTO copy SELECT * FROM parents",
        "DROP TABLE parents",
        "ALTER TABLE copy RENAME TO parents",
    ):
        connection.execute(text(statement))


def tables(engine):
    return inspect(engine).get_table_names()


def test_a_copy_that_fails_leaves_nothing_behind(engine):
    with (
        pytest.raises(IntegrityError),
        engine.connect() as connection,
        atomic_migrations(connection),
        connection.begin(),
    ):
        copy_table(connection, "state != 'lost'")

    assert tables(engine) == ["children", "parents"]


def test_rows_that_refer_to_a_copied_table_stay(engine):
    with (
        engine.connect() as connection,
        atomic_migrations(connection),
        connection.begin(),
    ):
        copy_table(connection)

    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM children")) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_the_connection_is_as_before(engine, fails):
    with engine.connect() as connection:
        before = connection.connection.isolation_level
        try:
            with atomic_migrations(connection):
                copy_table(connection, "state != 'lost'" if fails else "true")
                connection.commit()
        except IntegrityError:
            pass

        assert connection.scalar(text("PRAGMA foreign_keys")) == 1
        assert connection.connection.isolation_level == before
        assert not connection.connection.in_transaction


def test_a_connection_with_an_open_transaction_is_refused(engine):
    with (
        engine.connect() as connection,
        connection.begin(),
        pytest.raises(ConfigurationError, match="right after connect"),
        atomic_migrations(connection),
    ):
        raise AssertionError


def test_it_serves_the_connections_of_an_async_engine(engine):
    async def migrate():
        other = create_async_engine(engine.url.set(drivername="sqlite+aiosqlite"))
        try:
            async with other.connect() as connection:
                await connection.run_sync(fail)
        finally:
            await other.dispose()

    def fail(connection):
        with atomic_migrations(connection), connection.begin():
            copy_table(connection, "state != 'lost'")

    with pytest.raises(IntegrityError):
        asyncio.run(migrate())

    assert tables(engine) == ["children", "parents"]


def test_elsewhere_it_changes_nothing(postgres_url):
    engine = create_engine(postgres_url)
    with (
        engine.connect() as connection,
        connection.begin(),
        atomic_migrations(connection),
    ):
        assert connection.in_transaction()
    engine.dispose()

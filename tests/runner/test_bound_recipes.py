"""Fixtures as people have them, with an app on their Connection, at each isolation level."""

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import scoped_session, sessionmaker

from statejobs import StateJobs, StateJobsError
from tests.support.bound import outer_transaction, user_engine
from tests.support.parcels import POST, Item, Parcel, enqueue, reset_script, script


@pytest.fixture(autouse=True)
def _forget_script():
    yield
    reset_script()


@pytest.fixture(params=[None, "SERIALIZABLE", "REPEATABLE READ"])
def engine(request, database_url):
    if request.param and database_url.startswith("sqlite"):
        pytest.skip("SQLite has one level")
    options = {"isolation_level": request.param} if request.param else {}
    engine = user_engine(database_url, **options)
    with StateJobs(engine, domains=[POST]) as app:
        app.create_all()
    yield engine
    engine.dispose()


def test_a_scoped_session_inside_of_a_savepoint_of_the_fixture(engine):
    with (
        outer_transaction(engine) as connection,
        StateJobs(connection, domains=[POST]) as app,
    ):
        connection.begin_nested()
        session = scoped_session(sessionmaker(bind=connection))
        parcel = Parcel()
        session.add(parcel)
        session.flush()
        Parcel.send_off.enqueue(session, parcel)
        session.commit()

        assert app.drain(raise_errors=True).counts == {"complete": 1}

        session.refresh(parcel)
        assert parcel.state.value == "sent"
        session.rollback()
        assert len(app.queries.jobs()) == 1
        session.remove()


def test_a_body_that_writes_while_it_reads_a_stream(engine):
    def body(parcel, ctx):
        found = ctx.session.scalars(select(Parcel.id).execution_options(yield_per=2))
        for number, key in enumerate(found):
            seen.append(key)
            if number == 1:
                ctx.session.add(Item(name="list", parcel=parcel))
                ctx.session.flush()

    seen = []
    script.send = body
    with (
        outer_transaction(engine) as connection,
        StateJobs(connection, domains=[POST]) as app,
    ):
        enqueue(app, Parcel, "send_off", 5)

        assert app.drain(raise_errors=True).counts == {"complete": 5}

    assert len(seen) == 25


@pytest.mark.parametrize("is_first", [True, False])
def test_a_statement_of_the_test_that_failed_outside_of_a_savepoint_is_named(
    engine, is_first
):
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite goes on")
    with (
        outer_transaction(engine) as connection,
        StateJobs(connection, domains=[POST]) as app,
    ):
        if not is_first:
            enqueue(app, Parcel, "send_off")
        with pytest.raises(DBAPIError):
            connection.execute(text("select nothing"))

        with pytest.raises(StateJobsError, match="a statement has failed"):
            app.drain()

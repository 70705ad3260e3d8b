"""What an app on one Connection takes, what it refuses, and what it leaves alone."""

import asyncio
import threading
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from statejobs import (
    Domain,
    JobContext,
    StateJobs,
    StateJobsError,
    WorkerSettings,
    task,
)
from statejobs.errors import ConfigurationError
from statejobs.store.engines.factory import ASYNC_DRIVERS, parse_url
from tests.support.bound import outer_transaction, rows_of, user_engine
from tests.support.parcels import (
    POST,
    Base,
    Item,
    Message,
    Parcel,
    enqueue,
    reset_script,
    script,
)

GATE, LATE = threading.Event(), []


@task("bound.writes_late", timeout=timedelta(seconds=0.1), max_attempts=1)
def writes_late(ctx: JobContext) -> None:
    ctx.session.add(Item(name="early", parcel_id=1))
    ctx.session.flush()
    GATE.wait(10)
    try:
        ctx.session.add(Item(name="late", parcel_id=1))
        ctx.session.flush()
    except StateJobsError as error:
        LATE.append(str(error))


DOMAINS = [POST, Domain("late", tasks=[writes_late])]


@pytest.fixture(autouse=True)
def _forget_script():
    yield
    reset_script()


@pytest.fixture
def engine(database_url):
    engine = user_engine(database_url)
    with StateJobs(engine, domains=DOMAINS) as app:
        app.create_all()
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine):
    """What a fixture of a test gives."""
    with outer_transaction(engine) as connection:
        yield connection
    tables = rows_of(engine, Base.metadata.sorted_tables)
    assert not any(tables.values())


@pytest.fixture
def app(connection):
    settings = WorkerSettings(timeout_grace=timedelta(seconds=0.1))
    with StateJobs(connection, domains=DOMAINS, settings=settings) as app:
        yield app


@pytest.fixture
def session(connection):
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        yield session


def send_by(session):
    """Commit a parcel with a job, as code does that a test calls."""
    parcel = Parcel()
    session.add(parcel)
    session.flush()
    Parcel.send_off.enqueue(session, parcel)
    session.commit()
    return parcel


def test_what_a_session_of_the_test_committed_is_drained_and_seen_by_it(app, session):
    parcel = send_by(session)
    session.add(Parcel())
    session.rollback()

    result = app.drain()

    assert result.counts == {"complete": 1}
    session.refresh(parcel)
    assert parcel.state.value == "sent"
    assert session.scalar(select(func.count()).select_from(Parcel)) == 1
    send_by(session)
    assert app.drain(raise_errors=True).counts == {"complete": 1}


@pytest.mark.parametrize(
    "mode", ["create_savepoint", "rollback_only", "conditional_savepoint"]
)
def test_each_mode_of_joining_a_transaction_works(app, connection, mode):
    with Session(connection, join_transaction_mode=mode) as session:
        send_by(session)
        assert app.drain().counts == {"complete": 1}
        session.add(Item(name="more", parcel_id=1))
        session.commit()

    assert app.drain().counts == {}


def test_what_an_action_raised_is_raised_when_asked_for(app, session):
    def body(_parcel, _ctx):
        raise LookupError("nothing there")

    script.send = body
    send_by(session)

    with pytest.raises(LookupError, match="nothing there"):
        app.drain(raise_errors=True)

    (job,) = app.queries.jobs()
    assert (job.state, job.attempt) == ("failed", 1)
    assert app.retry_job(job.id) == "queued"


def test_code_that_opens_sessions_of_the_app_or_on_its_engine_takes_part(app):
    with app.session() as one, Session(app.engine) as other:
        send_by(one)
        send_by(other)
    with app.engine.begin() as connection:
        assert connection.scalar(select(func.count()).select_from(Parcel)) == 2

    assert len(app.drain()) == 2


def test_a_connection_from_the_pool_of_another_app_serves(database_url):
    with StateJobs(database_url, domains=DOMAINS) as whole:
        whole.create_all()
        with (
            outer_transaction(whole.engine) as connection,
            StateJobs(connection, domains=DOMAINS) as app,
        ):
            enqueue(app, Parcel, "send_off")
            assert app.drain().counts == {"complete": 1}
        assert whole.queries.jobs() == []


def test_two_apps_may_share_a_connection(app, connection):
    with StateJobs(connection, domains=DOMAINS) as other:
        enqueue(other, Parcel, "send_off")

    assert app.drain().counts == {"complete": 1}


def test_tables_are_made_within_it_as_well(database_url):
    engine = user_engine(database_url)
    with (
        outer_transaction(engine) as connection,
        StateJobs(connection, domains=DOMAINS) as app,
    ):
        app.create_all()
        enqueue(app, Parcel, "send_off")
        assert app.drain().counts == {"complete": 1}

    with (
        StateJobs(engine, domains=DOMAINS) as app,
        pytest.raises(StateJobsError, match="tables"),
    ):
        app.check_tables()
    engine.dispose()


def test_an_app_ends_neither_the_transaction_nor_the_connection_nor_the_engine(
    app, connection, engine
):
    enqueue(app, Parcel, "send_off")
    app.close()
    app.engine.dispose()

    assert connection.in_transaction()
    assert connection.scalar(select(func.count()).select_from(Parcel)) == 1
    with engine.connect() as other:
        assert other.scalar(select(func.count()).select_from(Parcel)) == 0
    with pytest.raises(StateJobsError, match="closed"):
        app.drain()


@pytest.mark.postgres
def test_what_a_transaction_has_set_stays_as_it_is(postgres_url):
    asked = text(
        "SELECT name, setting FROM pg_settings WHERE name LIKE '%timeout' OR name = "
        "'synchronous_commit' ORDER BY name"
    )
    engine = user_engine(postgres_url)
    with outer_transaction(engine) as connection:
        app = StateJobs(connection, domains=DOMAINS)
        app.create_all()
        connection.execute(text("SET LOCAL lock_timeout TO 1234"))
        before = connection.execute(asked).all()
        script.send = lambda parcel, ctx: ctx.session.add(
            Item(name="list", parcel=parcel)
        )
        enqueue(app, Parcel, "send_off", 2)
        app.drain()

        assert connection.execute(asked).all() == before
    engine.dispose()


@pytest.mark.postgres
def test_the_schema_of_the_connection_is_used(postgres_url):
    engine = user_engine(postgres_url)
    with outer_transaction(engine) as connection:
        connection.execute(text("CREATE SCHEMA own"))
        connection.execution_options(schema_translate_map={None: "own"})
        app = StateJobs(connection, domains=DOMAINS)
        app.create_all()
        enqueue(app, Parcel, "send_off")

        assert app.drain().counts == {"complete": 1}
        assert connection.scalar(text("SELECT count(*) FROM own.parcels")) == 1
    engine.dispose()


# Refused


def test_a_worker_is_refused(app):
    async def live():
        async with app.lifespan():
            pass

    with pytest.raises(ConfigurationError, match="one Connection"), app.running():
        pass
    with pytest.raises(ConfigurationError, match="one Connection"):
        app.worker()
    with pytest.raises(ConfigurationError, match="one Connection"):
        asyncio.run(live())


@pytest.mark.parametrize("form", ["drain_async", "stuck_jobs_async", "jobs_async"])
def test_forms_for_asyncio_are_refused(app, form):
    call = getattr(app, form, None) or getattr(app.queries, form)

    with pytest.raises(ConfigurationError, match="form for asyncio"):
        asyncio.run(call())


def test_an_async_session_is_refused(app):
    with pytest.raises(ConfigurationError, match="async_session"):
        app.async_session(None)


def test_an_async_action_is_refused_and_its_job_given_back(app):
    enqueue(app, Message, "get")

    with pytest.raises(ConfigurationError, match="async def"):
        app.drain()

    (job,) = app.queries.jobs()
    assert (job.state, job.attempt) == ("queued", 0)


@pytest.mark.parametrize("is_closed", [False, True])
def test_without_a_transaction_it_is_refused(engine, is_closed):
    with engine.connect() as connection, StateJobs(connection, domains=DOMAINS) as app:
        if is_closed:
            connection.close()
        with pytest.raises(ConfigurationError, match=r"transaction|closed"):
            app.drain()


def test_a_session_that_outlives_the_transaction_is_refused(engine):
    with outer_transaction(engine) as connection:
        app = StateJobs(connection, domains=DOMAINS)
        session = app.session()
        session.add(Parcel())
        session.flush()

    with pytest.raises(StateJobsError, match="gone"):
        session.commit()
    session.close()
    with Session(engine) as session:
        assert session.scalars(select(Parcel)).all() == []


@pytest.mark.postgres
def test_a_connection_in_autocommit_is_refused(postgres_url):
    engine = user_engine(postgres_url)
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
            StateJobs(connection, domains=DOMAINS)
    engine.dispose()


def test_a_connection_of_an_engine_that_is_not_configured_is_refused(sqlite_url):
    engine = create_engine(sqlite_url)
    with (
        engine.connect() as connection,
        pytest.raises(ConfigurationError, match="configure_sqlite"),
    ):
        StateJobs(connection, domains=DOMAINS)
    engine.dispose()


def test_an_async_connection_is_refused(database_url):
    url = parse_url(database_url)

    async def bind():
        engine = create_async_engine(
            url.set(drivername=ASYNC_DRIVERS[url.get_backend_name()])
        )
        async with engine.connect() as connection:
            for bound in (connection, connection.sync_connection):
                with pytest.raises(ConfigurationError, match="asynchronous"):
                    StateJobs(bound, domains=DOMAINS)
        await engine.dispose()

    asyncio.run(bind())


# Savepoints end in turn


def test_jobs_do_not_run_inside_of_what_a_session_of_the_app_has_not_committed(app):
    with app.session() as session:
        session.add(Parcel())
        session.flush()

        with pytest.raises(StateJobsError, match="has not committed"):
            app.drain()

        session.commit()
    app.drain()


def test_sessions_that_overlap_are_refused_and_neither_loses_a_word_unsaid(app):
    with app.session() as first, app.session() as second:
        first.add(Parcel(note="first"))
        first.flush()
        second.add(Parcel(note="second"))
        second.flush()

        with pytest.raises(StateJobsError, match="overlap"):
            first.commit()
        first.rollback()
        with pytest.raises(StateJobsError, match="gone"):
            second.commit()

    assert enqueue(app, Parcel, "send_off")


def test_a_session_may_write_between_those_of_others_that_only_read(app):
    with app.session() as reader, app.session() as writer:
        assert reader.scalars(select(Parcel)).all() == []
        writer.add(Parcel())
        writer.commit()
        assert len(reader.scalars(select(Parcel)).all()) == 1
        reader.rollback()
    assert len(app.session().scalars(select(Parcel)).all()) == 1


def test_a_body_that_ends_what_a_session_of_the_test_began_fails(app, session):
    def body(parcel, ctx):
        ctx.session.add(Item(name="list", parcel=parcel))
        ctx.session.flush()
        session.commit()

    parcel = send_by(session)
    session.scalars(select(Item)).all()
    script.send = body

    with pytest.raises(StateJobsError, match="overlap"):
        app.drain(raise_errors=True)

    session.rollback()
    session.refresh(parcel)
    assert session.scalars(select(Item)).all() == []


def test_a_body_that_writes_through_a_session_of_the_test_beside_its_own_fails(
    app, session
):
    def body(parcel, ctx):
        ctx.session.add(Item(name="list", parcel=parcel))
        ctx.session.flush()
        session.add(Item(name="beside", parcel_id=parcel.id))
        session.flush()

    send_by(session)
    session.scalars(select(Item)).all()
    script.send = body

    with pytest.raises(StateJobsError, match="overlap"):
        app.drain(raise_errors=True)

    session.rollback()
    assert session.scalars(select(Item)).all() == []


def test_a_body_may_read_and_write_through_a_session_of_the_test_alone(app, session):
    def body(parcel, _ctx):
        session.add(Item(name="by the test's", parcel_id=parcel.id))
        session.commit()

    send_by(session)
    script.send = body

    assert app.drain(raise_errors=True).counts == {"complete": 1}
    assert [item.name for item in session.scalars(select(Item))] == ["by the test's"]


@pytest.mark.parametrize("words", ["COMMIT", "rollback", " end", "BEGIN"])
def test_the_words_that_end_a_transaction_are_refused(app, connection, words):
    with app.session() as session:
        session.add(Parcel())
        session.flush()
        with pytest.raises(StateJobsError, match="one Connection"):
            session.execute(text(words))

    assert connection.in_transaction()


def test_the_transaction_is_not_committed_around_what_is_not(app, connection):
    with app.session() as session:
        session.add(Parcel())
        session.flush()
        with pytest.raises(StateJobsError, match="overlap"):
            connection.commit()


def test_a_statement_that_fails_ends_nobody_elses_work(app, session):
    parcel = send_by(session)
    with app.session() as other, pytest.raises(SQLAlchemyError):
        other.execute(text("select nothing"))

    assert app.drain().counts == {"complete": 1}
    session.refresh(parcel)


def test_a_body_that_goes_on_after_its_timeout_writes_nothing_more(app):
    LATE.clear()
    GATE.clear()
    enqueue(app, Parcel, "send_off")
    with app.session() as session:
        writes_late.enqueue(session)
        session.commit()

    result = app.drain()
    threads = [t for t in threading.enumerate() if t.name.startswith("statejobs-job")]
    GATE.set()
    for thread in threads:
        thread.join(10)

    assert result.counts == {"complete": 1, "discard": 1}
    assert LATE == [
        "this attempt went on after its timeout, and has no connection any more. "
        "Let the body end when ctx.cancel_requested is true, or give it a longer timeout"
    ]
    with app.session() as session:
        assert session.scalars(select(Item)).all() == []

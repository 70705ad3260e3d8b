"""An engine of the user's own, whose pool its jobs and its app use up."""

import threading
import time
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, event, func, make_url, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from statejobs import (
    ConfigurationError,
    StateJobs,
    WorkerSettings,
    configure_sqlite,
)
from statejobs.events import JobEnded, JobLate, JobRescued, JobStarted, LeasesLost
from statejobs.runner.blame import is_everyones
from statejobs.store.engines.reserve import BESIDE, Reserve
from statejobs.store.tables import nodes
from tests.support.parcels import (
    POST,
    Message,
    Parcel,
    ParcelState,
    close_app,
    enqueue,
    job_of,
    script,
    send,
)

SETTINGS = WorkerSettings(
    lease=timedelta(seconds=1.5),
    heartbeat=timedelta(seconds=0.5),
    rescue=timedelta(seconds=0.2),
    poll=timedelta(seconds=0.1),
)


def own_engine(url, **options):
    """As a user makes one, with room for two."""
    engine = create_engine(url, **{"pool_size": 2, "max_overflow": 0, **options})
    return configure_sqlite(engine) if engine.dialect.name == "sqlite" else engine


@pytest.fixture
def small(database_url):
    """An app on an engine with two connections, and five slots."""
    app = StateJobs(
        own_engine(database_url),
        domains=[POST],
        queues={"default": 5},
        settings=SETTINGS,
    )
    app.create_all()
    yield app
    close_app(app)


@pytest.fixture
def told(small):
    events = []
    small.telemetry.subscribe(lambda happening: events.append(type(happening)))
    return events


def all_sent(url):
    engine = create_engine(url)  # the pool of the app has nothing left
    try:
        with engine.connect() as connection:
            return set(connection.scalars(select(Parcel.state))) == {ParcelState.SENT}
    finally:
        engine.dispose()


def test_jobs_that_hold_every_connection_keep_their_leases(small, told):
    script.send = _hold_a_connection
    send(small, number=4)

    with small.running():
        assert _wait_until(lambda: all_sent(small.engine.url))

    assert not {LeasesLost, JobRescued, JobLate} & set(told)
    assert told.count(JobStarted) == 4


def test_an_app_that_holds_every_connection_delays_no_job_that_needs_none(small, told):
    script.send = lambda _parcel, _ctx: time.sleep(2)  # noqa: TID251 - longer than its lease
    send(small, number=2)

    with small.running() as worker:
        assert _wait_until(lambda: told.count(JobStarted) == 2)
        with small.engine.connect(), small.engine.connect():
            assert _wait_until(lambda: all_sent(small.engine.url))
            assert _wait_until(lambda: worker.held.is_empty)

    assert not {LeasesLost, JobRescued, JobLate} & set(told)


def test_outcomes_other_than_success_are_recorded_beside_a_full_pool(small, told):
    is_full = threading.Event()

    def fail(*_args):
        is_full.wait(30)
        raise RuntimeError("no")

    script.send = fail
    send(small)
    with small.running():
        assert _wait_until(lambda: JobStarted in told)
        with small.engine.connect(), small.engine.connect():
            is_full.set()
            assert _wait_until(lambda: JobEnded in told)


@pytest.mark.postgres
def test_what_the_user_set_up_for_connections_happens_on_those_of_the_worker_too(
    postgres_url,
):
    connected = []
    engine = own_engine(postgres_url)

    @event.listens_for(engine, "do_connect")
    def _give_password(_dialect, _record, _args, options):
        options["application_name"] = "given late"

    @event.listens_for(engine, "connect")
    def _prepare(connection, _record):
        connected.append(connection)

    reserve = Reserve(engine, most=1)
    with reserve.connect() as connection:
        assert connection.scalar(text("SHOW application_name")) == "given late"
    assert connected
    engine.dispose()


SET_UP = {
    "sqlite": ("PRAGMA cache_size = 1234", "PRAGMA cache_size", 1234),
    "postgresql": (
        "SET search_path TO public, warehouse",
        "SHOW search_path",
        "public, warehouse",
    ),
}


def test_what_the_user_set_up_for_connections_holds_for_those_of_async_actions_too(
    database_url,
):
    engine, seen, checked_out = own_engine(database_url), [], []
    set_up, ask, expected = SET_UP[engine.dialect.name]

    @event.listens_for(engine, "connect")
    def _prepare(connection, _record):
        if engine.dialect.name == "postgresql":
            connection.autocommit = True  # so that no rollback takes it back
        cursor = connection.cursor()
        cursor.execute(set_up)
        cursor.close()
        if engine.dialect.name == "postgresql":
            connection.autocommit = False

    @event.listens_for(engine, "checkout")
    def _note(connection, _record, _proxy):
        checked_out.append(type(connection).__name__)

    async def look(_message, ctx):
        seen.append(await ctx.session.scalar(text(ask)))

    app = StateJobs(engine, domains=[POST], settings=SETTINGS)
    app.create_all()
    script.fetch = look
    enqueue(app, Message, "get")

    app.drain()

    assert seen == [expected]
    assert any(name.startswith("AsyncAdapt") for name in checked_out)
    close_app(app)


@pytest.mark.postgres
def test_the_password_that_the_user_gives_late_is_given_to_async_actions_too(
    postgres_url,
):
    engine, seen = own_engine(postgres_url), []

    @event.listens_for(engine, "do_connect")
    def _give(_dialect, _record, _args, options):
        options["application_name"] = "given late"

    async def look(_message, ctx):
        seen.append(await ctx.session.scalar(text("SHOW application_name")))

    app = StateJobs(engine, domains=[POST], settings=SETTINGS)
    app.create_all()
    script.fetch = look
    enqueue(app, Message, "get")

    app.drain()

    assert seen == ["given late"]
    close_app(app)


@pytest.mark.postgres
def test_too_many_connections_pause_claims_and_count_nothing(postgres_url, role):
    url = make_url(postgres_url).set(username=role)
    app = StateJobs(own_engine(url), domains=[POST], settings=SETTINGS)
    (key,) = send(app)
    runner = app.runner()
    app.engine.dispose()
    _execute(postgres_url, f"ALTER ROLE {role} CONNECTION LIMIT 1")
    other = create_engine(url)

    with other.connect(), pytest.raises(DBAPIError) as met:
        runner.claim("default", limit=1)

    other.dispose()
    # it may still be leaving
    _execute(postgres_url, f"ALTER ROLE {role} CONNECTION LIMIT -1")
    assert is_everyones(met.value)
    job = job_of(app, Parcel, key)
    assert (job.state.value, job.attempt, app.queries.attempts(job.id)) == (
        "queued",
        0,
        [],
    )
    (claim,) = runner.claim("default", limit=1)
    assert runner.run(claim).outcome == "complete"
    close_app(app)


def test_a_reserve_ends_with_the_engine_beside_which_it_is(database_url):
    engine = own_engine(database_url)
    reserve = Reserve(engine.execution_options(), most=1)
    closed = []
    event.listen(engine, "close", lambda *_args: closed.append(1))
    late = Reserve(engine, most=1)
    for one in (reserve, late):
        with one.connect() as connection:
            connection.execute(select(1))

    engine.dispose()

    assert len(closed) == 1  # a listener that came later does not see those of before


def test_what_is_in_use_when_the_engine_is_disposed_is_closed_when_it_comes_back(
    database_url,
):
    engine = own_engine(database_url)
    closed = []
    event.listen(engine, "close", lambda *_args: closed.append(1))
    reserve = Reserve(engine, most=1)

    with reserve.connect():
        engine.dispose()
        assert closed == []

    assert closed == [1]


def test_a_reserve_that_was_closed_keeps_nothing(database_url):
    engine = own_engine(database_url)
    closed = []
    event.listen(engine, "close", lambda *_args: closed.append(1))
    reserve = Reserve(engine, most=1)

    with reserve.connect():
        reserve.close()
    assert closed == [1]
    with reserve.connect():
        """Somebody had it in his hand."""
    assert closed == [1, 1]
    engine.dispose()


def test_a_reserve_borrows_only_what_leaves_one_connection(database_url):
    engine = own_engine(database_url)
    reserve = Reserve(engine, most=1, may_borrow=True)

    with reserve.connect(), reserve.connect():
        assert engine.pool.checkedout() == 1
        waiting = threading.Thread(
            target=lambda: reserve.connect().close(), daemon=True
        )
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        assert engine.pool.checkedout() == 1
    waiting.join(10)
    assert not waiting.is_alive()
    engine.dispose()


def test_a_user_who_wants_no_pool_gets_none(database_url):
    engine = create_engine(database_url, poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        configure_sqlite(engine)
    app = StateJobs(engine, domains=[POST], settings=SETTINGS)
    app.create_all()
    send(app)

    with app.running():
        assert _wait_until(lambda: all_sent(app.engine.url))
        assert app.store._own is app.store.working


@pytest.mark.postgres
@pytest.mark.parametrize("whose", ["ROLE", "DATABASE"])
def test_a_limit_that_leaves_no_connection_for_jobs_is_refused_by_its_number(
    postgres_url, whose, role
):
    name = role if whose == "ROLE" else f'"{make_url(postgres_url).database}"'
    _execute(postgres_url, f"ALTER {whose} {name} CONNECTION LIMIT {BESIDE}")
    app = StateJobs(make_url(postgres_url).set(username=role), domains=[POST])

    with pytest.raises(ConfigurationError) as refused:
        app.worker({"default": 3})

    assert f"may have {BESIDE} connections" in str(refused.value)
    assert f"at least {BESIDE + 1}" in str(refused.value)
    assert f"CONNECTION LIMIT {BESIDE + 3}" in refused.value.fix
    close_app(app)


@pytest.mark.postgres
def test_a_limit_that_is_tight_is_said_and_served(postgres_url, role, caplog):
    _execute(postgres_url, f"ALTER ROLE {role} CONNECTION LIMIT {BESIDE + 2}")
    app = StateJobs(
        make_url(postgres_url).set(username=role), domains=[POST], settings=SETTINGS
    )
    send(app, number=20)

    with app.running():
        assert _wait_until(lambda: all_sent(postgres_url))

    assert f"may have {BESIDE + 2} connections" in caplog.text
    close_app(app)


@pytest.mark.postgres
def test_the_limit_of_a_role_is_found_without_a_pool(postgres_url, role):
    url = make_url(postgres_url).set(username=role)
    app = StateJobs(
        create_engine(url, poolclass=NullPool), domains=[POST], settings=SETTINGS
    )

    app.worker()  # raised: the connection is closed
    close_app(app)


@pytest.mark.postgres
def test_an_unlimited_role_is_asked_nothing(postgres_url, caplog):
    app = StateJobs(postgres_url, domains=[POST])
    app.create_all()
    app.worker()

    assert "connections" not in caplog.text
    close_app(app)


def test_every_step_of_a_stop_is_taken_though_one_raises(small, monkeypatch):
    worker = small.worker()
    worker.start()
    monkeypatch.setattr(worker._crew, "give_back_waiting", _raise)
    monkeypatch.setattr(worker._loops[0], "stop", _raise)
    if worker._listener is not None:
        monkeypatch.setattr(worker._listener, "stop", _raise)

    worker.stop(timedelta(seconds=1))
    monkeypatch.undo()
    worker._loops[0].stop()
    if worker._listener is not None:
        worker._listener.stop()

    with small.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(nodes)) == 0
    assert not worker._loops[1]._thread.is_alive()


@pytest.fixture
def role(postgres_url):
    """A role that is no superuser, and owns the tables of an app."""
    name = f"clerk_{make_url(postgres_url).database}"
    _execute(
        postgres_url,
        f"CREATE ROLE {name} LOGIN",
        f"GRANT ALL ON SCHEMA public TO {name}",
    )
    app = StateJobs(make_url(postgres_url).set(username=name), domains=[POST])
    app.create_all()
    close_app(app)
    yield name
    database = make_url(postgres_url).database
    _execute(
        postgres_url,
        f'ALTER DATABASE "{database}" CONNECTION LIMIT -1',
        f"DROP OWNED BY {name}",
        f"DROP ROLE {name}",
    )


def _execute(url, *statements):
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def _hold_a_connection(parcel, ctx):
    if ctx.session.get_bind().dialect.name == "sqlite":
        ctx.session.connection()  # a write would hold the lock of the whole file
    else:
        parcel.stamps += 1
        ctx.session.flush()
    time.sleep(2)  # noqa: TID251 - longer than its lease


def _raise(*_args):
    raise RuntimeError("no")


def _wait_until(holds, within=60.0):
    give_up_at = time.monotonic() + within
    while time.monotonic() < give_up_at:
        if holds():
            return True
        time.sleep(0.05)  # noqa: TID251
    return False

"""An app that is closed leaves nothing behind."""

import asyncio
import gc
import sqlite3
import threading
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, select

from statejobs import (
    ClosedError,
    Domain,
    JobContext,
    StateJobs,
    WorkerSettings,
    configure_sqlite,
    task,
)
from statejobs.store.nodes import ask_time
from tests.support.forms import Atomic, Awaited, Base, Chunked, Plain
from tests.support.parcels import enqueue
from tests.support.processes import eventually

FORMS = Domain("forms", resources=[Plain, Awaited, Chunked, Atomic])


def left():
    """Threads and descriptors of this process."""
    gc.collect()
    return sorted(t.name for t in threading.enumerate()), len(
        [*Path("/proc/self/fd").iterdir()]
    )


def nothing_more_than(before):
    """Whether nothing is left beside what was there; threads may be about to end."""
    threads, descriptors = left()
    return len(threads) <= len(before[0]) and descriptors <= before[1]


def work(app, *, by_worker=False):
    """Let *app* do what an app does."""
    app.create_all()
    Base.metadata.create_all(app.engine)
    for kind in (Plain, Awaited):
        enqueue(app, kind, "act")
    if by_worker:
        with app.running():
            eventually(lambda: app.queries.counts()["default"] == {"completed": 2})
    else:
        assert app.drain().counts == {"complete": 2}
    app.queries.counts()


@pytest.mark.parametrize("by_worker", [False, True], ids=["drains", "runs"])
def test_an_app_that_worked_leaves_no_thread_and_no_descriptor(
    database_url, tmp_path, by_worker
):
    for number in range(2):
        if number:
            before = left()
        with StateJobs(database_url, domains=[FORMS]) as app:
            work(app, by_worker=by_worker)
            with app.engine.begin() as connection:
                connection.exec_driver_sql("DELETE FROM statejobs_jobs")

    eventually(lambda: nothing_more_than(before))


def test_a_thousand_apps_leave_nothing(database_url):
    with StateJobs(database_url, domains=[FORMS]) as first:
        first.create_all()
    before = left()

    for _ in range(1_000):
        with StateJobs(database_url, domains=[FORMS]) as app, app.session() as session:
            session.connection()

    eventually(lambda: nothing_more_than(before))


def test_drains_leave_nothing_without_a_close(database_url):
    with StateJobs(database_url, domains=[FORMS]) as app:
        work(app)
        before = left()
        for _ in range(3):
            enqueue(app, Awaited, "act")
            app.drain()
            enqueue(app, Awaited, "act")
            app.step()

        eventually(lambda: nothing_more_than(before))


def test_an_engine_of_the_users_lives_on_as_it_was(database_url):
    engine = create_engine(database_url)
    if engine.dialect.name == "sqlite":
        configure_sqlite(engine)
    with StateJobs(engine, domains=[FORMS]) as first:
        work(first, by_worker=True)
    before, idle = listeners(engine), engine.pool.checkedin()

    for _ in range(3):
        with StateJobs(engine, domains=[FORMS]) as app, app.running():
            app.queries.counts()

    assert listeners(engine) == before
    assert engine.pool.checkedin() >= idle > 0
    engine.dispose()


def listeners(engine):
    """How many listen to the connections of *engine*."""
    pool, dialect, own = engine.pool.dispatch, engine.dialect.dispatch, engine.dispatch
    all_of_them = (
        pool.connect,
        pool.checkin,
        pool.checkout,
        dialect.handle_error,
        own.engine_disposed,
    )
    return [len([*listeners]) for listeners in all_of_them]


def test_two_apps_on_one_engine_do_not_end_each_other(postgres_url):
    engine = create_engine(postgres_url)
    with StateJobs(engine, domains=[FORMS]) as app:
        work(app)
        with StateJobs(engine, domains=[FORMS]):
            pass
        with app.engine.connect() as connection, engine.connect() as killer:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            connection.close()
            killer.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 10000)")

        assert app.queries.counts()["default"] == {"completed": 2}
    engine.dispose()


def test_close_stops_a_worker_that_runs(database_url):
    app = StateJobs(database_url, domains=[FORMS])
    app.create_all()
    with app.running() as worker:
        app.close()
        assert not worker.is_running

    with StateJobs(database_url, domains=[FORMS]) as other:
        assert other.queries.nodes() == []


def run_through(app):
    with app.running():
        pass


async def live_through(app):
    async with app.lifespan():
        pass


def held(app, stack):
    """What was taken of an app before its end, and is used after it."""
    fresh, used, enqueuing = (stack.enter_context(app.session()) for _ in range(3))
    used.connection()
    used.commit()
    runner = stack.enter_context(closing(app.runner()))
    return {
        "a session": fresh.connection,
        "a session that ended": used.connection,
        "an enqueue": partial(enqueue_in, enqueuing),
        "the engine": lambda: app.engine.connect().close(),
        "a runner": partial(runner.claim, "default", limit=1),
        "a worker": app.worker().start,
        "a query": app.queries.counts,
        "the store": partial(ask_time, app.store),
    }


OF_THE_ENGINE = ["a session", "a session that ended", "an enqueue", "the engine"]
"""What an engine of the user's still serves."""
USES = {
    "session": lambda app: app.session(),
    "drain": lambda app: app.drain(),
    "step": lambda app: app.step(),
    "worker": lambda app: app.worker(),
    "running": run_through,
    "runner": lambda app: app.runner(),
    "check_tables": lambda app: app.check_tables(),
    "create_all": lambda app: app.create_all(),
    "cancel_job": lambda app: app.cancel_job(1),
    "retry_job": lambda app: app.retry_job(1),
    "why_no_retry": lambda app: app.why_no_retry(1),
    "stuck_jobs": lambda app: app.stuck_jobs(),
    "prune": lambda app: app.prune(),
    "jobs": lambda app: app.queries.jobs(),
    "job": lambda app: app.queries.job(1),
    "attempts": lambda app: app.queries.attempts(1),
    "transitions": lambda app: app.queries.transitions("Plain", "1"),
    "counts": lambda app: app.queries.counts(),
    "nodes": lambda app: app.queries.nodes(),
    "lifespan": lambda app: asyncio.run(live_through(app)),
    "drain_async": lambda app: asyncio.run(app.drain_async()),
    "retry_job_async": lambda app: asyncio.run(app.retry_job_async(1)),
    "cancel_job_async": lambda app: asyncio.run(app.cancel_job_async(1)),
    "prune_async": lambda app: asyncio.run(app.prune_async()),
    "counts_async": lambda app: asyncio.run(app.queries.counts_async()),
}


def enqueue_in(session):
    session.add(record := Plain())
    Plain.act.enqueue(session, record)


@contextmanager
def opened_app(url, whose):
    """An app with its tables, on an engine that is made from the URL or the user's own."""
    if whose == "ours":
        app = StateJobs(url, domains=[FORMS])
        app.create_all()
        yield app
        return
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        configure_sqlite(engine)
    app = StateJobs(engine, domains=[FORMS])
    app.create_all()
    Base.metadata.create_all(engine)
    yield app
    engine.dispose()


def says_closed(use):
    """Whether *use* is refused because the app was closed."""
    try:
        use()
    except ClosedError as error:
        return "was closed" in str(error)
    return False


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_a_closed_app_says_so(database_url, whose):
    with opened_app(database_url, whose) as app:
        app.close()
        app.close()

        served = [
            name for name, use in USES.items() if not says_closed(partial(use, app))
        ]

        assert served == []
        assert whose == "theirs" or app.engine.pool.checkedin() == 0


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_what_was_taken_of_a_closed_app_says_so(database_url, whose):
    with opened_app(database_url, whose) as app, ExitStack() as stack:
        uses = held(app, stack)
        app.close()

        served = [name for name, use in uses.items() if not says_closed(use)]

        assert served == (OF_THE_ENGINE if whose == "theirs" else [])


def test_a_session_that_is_open_ends_as_it_would_have(database_url):
    with opened_app(database_url, "ours") as app, app.session() as session:
        session.add(Plain(n=1))
        session.flush()
        app.close()
        session.commit()

    with StateJobs(database_url, domains=[FORMS]) as other, other.session() as session:
        assert session.scalars(select(Plain.n)).all() == [1]


def test_an_error_in_the_block_is_not_hidden(database_url):
    with (
        pytest.raises(ValueError, match="mine"),
        StateJobs(database_url, domains=[FORMS]),
    ):
        raise ValueError("mine")


def test_a_listener_of_the_users_is_kept(database_url):
    engine = create_engine(database_url)
    if engine.dialect.name == "sqlite":
        configure_sqlite(engine)
    made = []
    event.listen(engine, "connect", lambda *_: made.append(1))
    with StateJobs(engine, domains=[FORMS]):
        pass

    engine.connect().close()

    assert made
    engine.dispose()


# Connections that come back late -----------------------------------------------------------------


def made_by(engine):
    """The connections of the driver that *engine* makes from now on."""
    made = []
    event.listen(
        engine,
        "connect",
        lambda _connection, record: made.append(record.driver_connection),
    )
    return made


def is_open(driver):
    if hasattr(driver, "closed"):
        return not driver.closed
    try:
        return driver.total_changes >= 0
    except sqlite3.ProgrammingError:
        return False


def test_a_session_that_outlives_its_app_closes_its_connection(database_url):
    app = StateJobs(database_url, domains=[FORMS])
    made = made_by(app.engine)
    with app.session() as session:
        session.connection()
        app.close()
        assert [is_open(driver) for driver in made] == [True]

    assert [is_open(driver) for driver in made] == [False]


@pytest.mark.parametrize("of_leases", [False, True], ids=["own", "of leases"])
def test_a_thread_of_a_worker_that_ends_late_closes_its_connection(
    database_url, of_leases
):
    app = StateJobs(database_url, domains=[FORMS])
    app.create_all()
    made = made_by(app.engine)
    app.store.reserve_connections()

    with app.store.single(of_leases=of_leases):
        app.close()

    assert [is_open(driver) for driver in made] == [False]


def test_a_body_that_ends_after_its_app_leaves_no_connection(database_url):
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    @task("close.endless", timeout=timedelta(seconds=0.1), max_attempts=1)
    def endless(ctx: JobContext) -> None:
        ctx.session.connection()
        begun.set()
        go_on.wait(60)
        ended.set()

    settings = WorkerSettings(timeout_grace=timedelta(seconds=0.1))
    app = StateJobs(
        database_url, domains=[Domain("d", tasks=[endless])], settings=settings
    )
    app.create_all()
    with app.session() as session:
        endless.enqueue(session)
        session.commit()
    made = made_by(app.engine)
    app.drain()
    assert begun.is_set()
    app.close()

    go_on.set()
    assert ended.wait(60)

    eventually(lambda: gc.collect() >= 0 and not any(map(is_open, made)))

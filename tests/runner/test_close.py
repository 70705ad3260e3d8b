"""An app that is closed leaves nothing behind."""

import gc
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event

from statejobs import Domain, StateJobs, StateJobsError, configure_sqlite
from tests.support.forms import Atomic, Awaited, Base, Chunked, Plain
from tests.support.parcels import enqueue
from tests.support.processes import eventually

FORMS = Domain("forms", resources=[Plain, Awaited, Chunked, Atomic])


def left():
    """Threads and descriptors of this process."""
    gc.collect()
    return sorted(t.name for t in threading.enumerate()), len([*Path("/proc/self/fd").iterdir()])


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
def test_an_app_that_worked_leaves_no_thread_and_no_descriptor(database_url, tmp_path, by_worker):
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


@pytest.mark.parametrize(
    "use", ["session", "drain", "step", "worker", "runner", "check_tables", "create_all"]
)
def test_a_closed_app_says_so(database_url, use):
    app = StateJobs(database_url, domains=[FORMS])
    app.create_all()
    app.close()
    app.close()

    with pytest.raises(StateJobsError, match="was closed"):
        getattr(app, use)()


def test_an_error_in_the_block_is_not_hidden(database_url):
    with pytest.raises(ValueError, match="mine"), StateJobs(database_url, domains=[FORMS]):
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

"""Connections that are swallowed: never answered, never closed. Real processes behind a proxy."""

import asyncio
import gc
import signal
import time
import warnings

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from statejobs.store.engines.asyncio import open_async_engine
from statejobs.store.engines.unanswered import LET_GO_AFTER, SilenceWatch
from tests.chaos.proxy import Proxy
from tests.support.processes import DEADLINE, eventually
from tests.support.worker_app import make_app
from tests.worker.conftest import (
    is_alive,
    send_parcel,
    submit_task,
    task,
    wait_until_carried,
)

pytestmark = pytest.mark.postgres


@pytest.fixture(autouse=True)
def _let_go_of_what_was_cut():
    """Connections that were cut cannot be closed in order: they go here, not in a later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def app(postgres_url):
    """The app, directly on its database."""
    opened = make_app(postgres_url)
    opened.create_all()
    yield opened
    opened.engine.dispose()


@pytest.fixture
def proxy():
    opened = Proxy()
    yield opened
    opened.stop()


@pytest.fixture
def behind(app, proxy):
    """The app as workers reach it: through the proxy."""
    url = app.engine.url.update_query_dict(
        {"sslmode": "disable", "gssencmode": "disable"}
    )
    opened = make_app(url.set(port=proxy.start(make_url(url))))
    yield opened
    opened.engine.dispose()


def is_done(app, task_id):
    return task(app, task_id).state == "completed"


def test_the_same_process_works_on_when_its_connections_were_swallowed(
    app, behind, proxy, start_worker
):
    worker = start_worker(behind)
    first = submit_task(app)
    eventually(lambda: is_done(app, first), worker.said)

    proxy.swallow()
    second = submit_task(app)

    eventually(lambda: is_done(app, second), worker.said)
    assert [node["pid"] for node in app.queries.nodes()] == worker.children()
    eventually(lambda: "has not answered" in worker.said(), worker.said)


def test_a_silent_network_is_outlived_and_told_of_now_and_then(
    app, behind, proxy, start_worker
):
    worker = start_worker(behind)
    proxy.fall_silent(25, lose=False)
    done = submit_task(app)

    eventually(lambda: is_done(app, done), worker.said)

    assert [node["pid"] for node in app.queries.nodes()] == worker.children()
    assert worker.said().count(" WARNING ") < 9, worker.said()


def test_a_stop_while_the_network_is_silent_keeps_to_the_grace(
    app, behind, proxy, start_worker, tmp_path
):
    send_parcel(app, tmp_path / "never")
    worker = start_worker(behind, "--grace", "2")
    wait_until_carried(tmp_path / "never")
    (child,) = worker.children()

    proxy.fall_silent(60, lose=False)
    worker.signal(signal.SIGTERM)

    assert worker.end() == 1, worker.said()  # the job stayed `processing`
    assert not is_alive(child)
    assert "killed" not in worker.said()


def test_a_long_statement_that_the_server_works_on_is_left_alone(behind):
    with behind.running(), behind.engine.connect() as connection:
        slept = connection.exec_driver_sql(f"SELECT pg_sleep({LET_GO_AFTER + 4})")

        assert len(slept.all()) == 1


def test_an_awaited_answer_that_never_comes_is_given_up_as_well(behind, proxy):
    watch = SilenceWatch(behind.engine, time.monotonic)
    opened = open_async_engine(behind.engine)
    watch.include(opened.sync_engine)

    async def ask_in_vain():
        async with opened.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")
            proxy.swallow()
            asked = asyncio.create_task(connection.exec_driver_sql("SELECT 2"))
            while not (asked.done() or await asyncio.to_thread(watch.run_once)):  # noqa: ASYNC110
                await asyncio.sleep(0.5)
            with pytest.raises(OperationalError):
                await asked
            await connection.invalidate()
        async with opened.connect() as connection:
            return (await connection.exec_driver_sql("SELECT 3")).scalar()

    assert asyncio.run(asyncio.wait_for(ask_in_vain(), DEADLINE)) == 3

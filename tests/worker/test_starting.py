"""Processes that start while something is missing. Real processes, a real server that is away."""

import pytest
from sqlalchemy import make_url, text

from tests.support.postgres import PostgresServer
from tests.support.processes import eventually
from tests.support.worker_app import make_app
from tests.worker.conftest import Running, submit_task, task

SLOW_APP = """
import pathlib, time

def make_app(database):
    pathlib.Path("began").touch()
    time.sleep(60)
"""


@pytest.fixture
def server():
    """A server of the test's own, which it may crash."""
    started = PostgresServer().start(durable=True)
    yield started
    started.stop()


@pytest.fixture
def app_away(server):
    """An app with tables and a job, whose server has crashed."""
    server.create_database("away")
    app = make_app(server.url("away"))
    app.create_all()
    app.task_id = submit_task(app)
    app.engine.dispose()
    server.crash()
    yield app
    app.engine.dispose()


@pytest.fixture
def start(tmp_path):
    """Starts a worker and waits for nothing."""
    started = []

    def run(url, **more):
        started.append(Running(url, tmp_path / f"worker-{len(started)}.log", **more))
        return started[-1]

    yield run
    for running in started:
        running.process.kill()
        running.process.wait()
        running.process.stdout.close()


def url_of(app):
    return app.engine.url.render_as_string(hide_password=False)


@pytest.mark.postgres
def test_a_process_waits_for_a_database_that_is_away(app_away, server, start):
    worker = start(url_of(app_away))
    worker.wait_for("this process waits for it")

    server.revive()

    eventually(
        lambda: task(app_away, app_away.task_id).state == "completed", worker.said
    )
    assert "ended by itself" not in worker.said()
    assert worker.said().count("the database is away") == 1


@pytest.mark.postgres
def test_a_process_that_waits_for_its_database_stops_at_once(app_away, start):
    worker = start(url_of(app_away))
    worker.wait_for("this process waits for it")

    worker.signal()

    assert worker.end() == 0
    assert "killed" not in worker.said()


@pytest.mark.postgres
def test_a_worker_on_a_database_that_does_not_exist_ends_at_once(server, start):
    worker = start(server.url("nowhere"))

    assert worker.end() == 2

    assert worker.said().count('database "nowhere" does not exist') == 1
    assert "ended by itself" not in worker.said()
    assert "waits for it" not in worker.said()


@pytest.mark.postgres
def test_a_worker_whose_role_may_not_read_our_tables_ends_at_once(server, start):
    server.create_database("closed")
    app = make_app(server.url("closed"))
    app.create_all()
    with app.engine.begin() as connection:
        connection.execute(text("CREATE ROLE doorman LOGIN"))
    app.engine.dispose()
    url = make_url(server.url("closed")).set(username="doorman")
    worker = start(url.render_as_string(hide_password=False))

    assert worker.end() == 2

    assert worker.said().count("permission denied") == 1
    assert "ended by itself" not in worker.said()


def test_a_process_that_still_imports_its_app_stops_at_once(start, tmp_path):
    (tmp_path / "slow_app.py").write_text(SLOW_APP)
    worker = start(
        f"sqlite:///{tmp_path}/any.db", app="slow_app:make_app", cwd=tmp_path
    )
    eventually((tmp_path / "began").exists, worker.said)

    worker.signal()

    assert worker.end() == 0
    assert "killed" not in worker.said()

"""Processes that start while something is missing. Real processes, a real server that is away."""

import importlib
import sys

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


KEEPING_APP = """
import contextlib, os, pathlib

from statejobs import Domain, JobContext, StateJobs, task


@task("keep.note")
def note(ctx: JobContext) -> None:
    pathlib.Path("noted").write_text(str(ctx.from_lifespan(int)))


@contextlib.contextmanager
def open_it():
    if pathlib.Path("nothing").exists():
        raise RuntimeError("no model")
    with pathlib.Path("told").open("a") as told:
        print("enter", os.getpid(), file=told, flush=True)
        yield os.getpid()
        print("leave", os.getpid(), file=told, flush=True)


def make_app(database):
    domain = Domain("keep", tasks=[note])
    return StateJobs(database, domains=[domain], worker_lifespan=open_it)
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

    def run(url, *options, **more):
        log = tmp_path / f"worker-{len(started)}.log"
        started.append(Running(url, log, *options, **more))
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


@pytest.fixture
def keeping(tmp_path, monkeypatch):
    """An app that keeps something open, and its URL; a job of it waits."""
    (tmp_path / "keeping_app.py").write_text(KEEPING_APP)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("keeping_app")
    url = f"sqlite:///{tmp_path}/keeping.db"
    app = module.make_app(url)
    app.create_all()
    with app.session() as session:
        module.note.enqueue(session)
        session.commit()
    yield app, url
    app.close()
    del sys.modules["keeping_app"]


def test_each_process_enters_the_lifespan_of_the_app_once_and_leaves_it(
    keeping, start, tmp_path
):
    app, url = keeping
    worker = start(url, app="keeping_app:make_app", cwd=tmp_path)
    eventually((tmp_path / "noted").exists, worker.said)
    (pid,) = worker.children()

    worker.signal()

    assert worker.end() == 0
    assert (tmp_path / "told").read_text() == f"enter {pid}\nleave {pid}\n"
    assert (tmp_path / "noted").read_text() == str(pid)
    assert [str(job.state) for job in app.queries.jobs()] == ["completed"]


def test_a_lifespan_that_raises_ends_the_worker_before_anything_is_claimed(
    keeping, start, tmp_path
):
    app, url = keeping
    (tmp_path / "nothing").touch()
    worker = start(url, "--processes", "3", app="keeping_app:make_app", cwd=tmp_path)

    assert worker.end() == 1

    assert worker.said().count("RuntimeError: no model") == 1
    assert "claims nothing" in worker.said()
    assert "is replaced in" not in worker.said()
    assert [str(job.state) for job in app.queries.jobs()] == ["queued"]
    assert app.queries.nodes() == []

"""Real workers: `statejobs worker` in processes of its own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import DEADLINE, eventually
from tests.support.worker_app import Parcel, Task, make_app

ROOT = Path(__file__).parents[2]
APP = "tests.support.worker_app:make_app"


class Running:
    """A `statejobs worker` and what it has said."""

    def __init__(self, database, log, *options, app=APP, cwd=ROOT):
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "statejobs", "worker", *options],
                cwd=cwd,
                env={
                    **os.environ,
                    "STATEJOBS_APP": app,
                    "STATEJOBS_DATABASE": database,
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        self.pid = self.process.pid

    def said(self):
        return self.log.read_text()

    def children(self):
        """Process ids of the workers that started, in order."""
        return [
            int(pid) for pid in re.findall(r"worker started: pid (\d+)", self.said())
        ]

    def wait_for(self, text, count=1):
        """Wait until it has said *text* so often."""
        eventually(
            lambda: self.said().count(text) >= count,
            lambda: f"no {text!r} in {self.said()}",
        )

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def end(self, within=DEADLINE):
        """Wait for its end; return the exit code."""
        return self.process.wait(within)


@pytest.fixture
def app(database_url):
    """The app, with tables, on every database."""
    yield from _app(database_url)


@pytest.fixture
def file_app(sqlite_url):
    """The app on SQLite, for what does not depend on the database."""
    yield from _app(sqlite_url)


@pytest.fixture
def start_worker(tmp_path):
    """Starts workers; they are gone after the test."""
    started = []

    def start(app, *options, count=1):
        url = app.engine.url.render_as_string(hide_password=False)
        running = Running(url, tmp_path / f"worker-{len(started)}.log", *options)
        started.append(running)
        running.wait_for("worker started", count)
        return running

    yield start
    for running in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)  # the session that it leads
        running.process.wait()
        running.process.stdout.close()


def _app(url):
    app = make_app(url)
    app.create_all()
    yield app
    app.engine.dispose()


def send_parcel(app, until):
    """Enqueue a job that runs until the file *until* exists; wait for nothing."""
    with app.session() as session:
        parcel = Parcel(id="one", until=str(until))
        session.add(parcel)
        parcel.send()
        session.commit()


def wait_until_carried(until):
    """Wait until the job that *until* ends has begun; a claim alone is given back at a stop."""
    eventually(Path(f"{until}.begun").exists)


def parcel(app):
    """The parcel as committed."""
    with app.session() as session:
        return session.get(Parcel, "one")


def submit_task(app, does="nothing"):
    """Enqueue a task; return its id."""
    with app.session() as session:
        task = Task(does=does)
        session.add(task)
        task.submit()
        session.commit()
        return task.id


def task(app, task_id):
    """A task as committed."""
    with app.session() as session:
        return session.get(Task, task_id)


def job(app):
    """The only job."""
    (found,) = app.queries.jobs()
    return found


def is_alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False

"""The command line on an app with work of every kind."""

import json
from dataclasses import dataclass, field
from inspect import signature

import pytest
from click.testing import CliRunner

from statejobs import acting_as
from statejobs.cli.main import cli
from tests.support.worker_app import Parcel, Task, make_app


def make_runner():
    """A runner that keeps stderr apart, as those of click 8.2 and later do."""
    apart = "mix_stderr" in signature(CliRunner).parameters
    return CliRunner(mix_stderr=False) if apart else CliRunner()


@dataclass
class Shell:
    """Types commands."""

    app: str = "tests.support.worker_app:make_app"
    database: str | None = None
    runner: CliRunner = field(default_factory=make_runner)

    def __call__(self, *words):
        """Run one command; the result has `exit_code`, `stdout` and `stderr`."""
        environ = {"STATEJOBS_APP": self.app, "STATEJOBS_DATABASE": self.database}
        return self.runner.invoke(cli, list(words), env=environ, prog_name="statejobs")

    def json(self, *words, exit_code=0):
        """Run one command with `--json`; return its document."""
        result = self(*words, "--json")
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout)


@pytest.fixture
def shell():
    """A shell whose app has no database of the test's."""
    return Shell()


@pytest.fixture
def work(database_url):
    """An app with records and jobs: done, failed, discarded, waiting, and one not yet submitted."""
    app = make_app(database_url)
    app.create_all()
    with app.session() as session, acting_as("user:7"):
        for number, does in enumerate(["nothing", "fail", "fail"], start=1):
            task = Task(id=number, does=does)
            session.add(task)
            task.submit()
        session.commit()
    app.drain(queues=["work"])
    app.retry_job(job_of(app, "3").id)
    app.drain(queues=["work"])
    with app.session() as session, acting_as("user:7"):
        session.add(Task(id=4, note="locked"))
        parcel = Parcel(id="box 7", until="/nowhere")
        session.add(parcel)
        parcel.send()
        session.commit()
    yield app
    app.engine.dispose()


@pytest.fixture
def typed(work):
    """A shell on the app `work`."""
    return Shell(database=work.engine.url.render_as_string(hide_password=False))


def job_of(app, record_id, resource="Task"):
    """The job of a record."""
    (job,) = app.queries.jobs(resource=resource, record_id=record_id)
    return job


def state_of(app, record_id):
    """The state of a task, as committed."""
    with app.session() as session:
        return session.get(Task, record_id).state

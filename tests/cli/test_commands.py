"""The command line as people and scripts use it."""

import json
import subprocess
import sys

import pytest

from statejobs import JobState
from tests.support.processes import APP, ROOT, statejobs
from tests.support.worker_app import Task, make_app


@pytest.fixture
def app(database_url):
    app = make_app(database_url)
    app.create_all()
    yield app
    app.engine.dispose()


def submit(app, **values):
    with app.session() as session:
        task = Task(**values)
        session.add(task)
        task.submit()
        session.commit()
    return task.id


def given_up(app):
    """Submit a task whose job is discarded."""
    key = submit(app, does="fail")
    app.drain()
    (job,) = app.queries.jobs(resource="Task", record_id=str(key))
    app.retry_job(job.id)
    app.drain()
    return key, job.id


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom statejobs.cli.main import main\n"
        "sys.argv = ['statejobs', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('alembic', 'rich') if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.stdout.strip().endswith("[]"), done.stderr


@pytest.mark.parametrize(
    "command", [("status",), ("job", "list"), ("queue", "list"), ("job", "show", "1")]
)
def test_every_reading_command_prints_one_document(app, database_url, command):
    submit(app)

    done = statejobs("--json", *command, database=database_url)

    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)


def test_a_record_is_shown_with_what_it_can_do(app, database_url):
    key = submit(app)

    done = statejobs("record", "show", "Task", str(key), database=database_url)

    assert done.returncode == 0, done.stderr
    assert "queued" in done.stdout
    assert "cancel" in done.stdout


def test_retry_of_a_discarded_job_fires_the_declared_transition(app, database_url):
    key, job_id = given_up(app)
    assert app.queries.job(job_id).state is JobState.DISCARDED

    done = statejobs("job", "retry", str(job_id), database=database_url)

    assert done.returncode == 0, done.stderr
    assert app.queries.job(job_id).state is JobState.QUEUED
    assert app.queries.transitions("Task", str(key))[-1]["name"] == "retry"


def test_cancel_of_a_waiting_job_moves_its_record_to_failed(app, database_url):
    key = submit(app)
    (job,) = app.queries.jobs()

    done = statejobs("job", "cancel", str(job.id), "--reason", "twice", database=database_url)

    assert done.returncode == 0, done.stderr
    assert app.queries.job(job.id).state is JobState.CANCELLED
    with app.session() as session:
        assert session.get(Task, key).state == "failed"


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("job", "show", "99"), 3, "99"),
        (("record", "show", "Tusk", "1"), 3, "Task"),
        (("jbo", "list"), 2, "job"),
        (("job", "list", "--state", "faild"), 2, "failed"),
    ],
)
def test_mistakes_have_a_code_and_a_hint(app, database_url, command, code, words):
    done = statejobs(*command, database=database_url)

    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_retry_that_a_guard_refuses_says_so(app, database_url):
    key, job_id = given_up(app)
    with app.session() as session:
        session.get(Task, key).note = "locked"
        session.commit()

    done = statejobs("job", "retry", str(job_id), database=database_url)

    assert done.returncode == 4
    assert "It is locked." in done.stderr


def test_upgrade_makes_the_tables_and_check_agrees(database_url):
    before = statejobs("db", "check", database=database_url)
    done = statejobs("db", "upgrade", database=database_url)
    after = statejobs("db", "check", database=database_url)

    assert (before.returncode, done.returncode, after.returncode) == (1, 0, 0), before.stderr


@pytest.mark.parametrize("name", ["Task", "job"])
def test_machines_are_drawn(sqlite_url, name):
    done = statejobs("diagram", name, database=sqlite_url)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("stateDiagram-v2")


def test_the_app_is_named_when_it_is_missing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "statejobs", "status"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert "--app" in done.stderr
    assert APP not in done.stderr


def test_prune_deletes_what_is_old_and_a_dry_run_counts_it(app, database_url):
    submit(app)
    app.drain()
    nothing = {"cancelled": 0, "discarded": 0}

    kept = statejobs("prune", "--json", database=database_url)
    counted = statejobs("prune", "--older-than", "0s", "--dry-run", "--json", database=database_url)
    deleted = statejobs("prune", "--older-than", "0s", database=database_url)

    assert json.loads(kept.stdout)["jobs"] == {"completed": 0, **nothing}
    assert json.loads(counted.stdout) == {
        "dry_run": True, "jobs": {"completed": 1, **nothing}, "attempts": 0, "history": 0
    }  # fmt: skip
    assert "deleted jobs: 1 completed, 0 cancelled" in deleted.stdout
    assert app.queries.jobs() == []


def test_prune_refuses_an_age_without_a_unit(database_url):
    refused = statejobs("prune", "--older-than", "30", database=database_url)

    assert refused.returncode == 2
    assert "cannot read the age '30'" in refused.stderr

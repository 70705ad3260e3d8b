"""The command line as people and scripts use it."""

import json
import subprocess
import sys

import pytest

from statejobs import JobState
from tests.cli.conftest import Shell
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
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.strip().endswith("[]"), done.stderr


@pytest.mark.parametrize(
    "command", [("status",), ("job", "list"), ("queue", "list"), ("job", "show", "1")]
)
def test_every_reading_command_prints_one_document(app, database_url, command):
    submit(app)

    done = Shell(database=database_url)("--json", *command)

    assert done.exit_code == 0, done.stderr
    json.loads(done.stdout)


def test_a_record_is_shown_with_what_it_can_do(app, database_url):
    key = submit(app)

    done = Shell(database=database_url)("record", "show", "Task", str(key))

    assert done.exit_code == 0, done.stderr
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

    done = Shell(database=database_url)(
        "job", "cancel", str(job.id), "--reason", "twice"
    )

    assert done.exit_code == 0, done.stderr
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
def test_mistakes_have_a_code_and_a_hint(sqlite_url, command, code, words):
    opened = make_app(sqlite_url)
    opened.create_all()
    opened.engine.dispose()

    done = statejobs(*command, database=sqlite_url)

    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_retry_that_a_guard_refuses_says_so(app, database_url):
    key, job_id = given_up(app)
    with app.session() as session:
        session.get(Task, key).note = "locked"
        session.commit()

    done = Shell(database=database_url)("job", "retry", str(job_id))

    assert done.exit_code == 4
    assert "It is locked." in done.stderr


def test_upgrade_makes_the_tables_and_check_agrees(database_url):
    before = Shell(database=database_url)("db", "check")
    done = statejobs("db", "upgrade", database=database_url)
    after = Shell(database=database_url)("db", "check")

    assert (before.exit_code, done.returncode, after.exit_code) == (1, 0, 0), (
        before.stderr
    )


@pytest.mark.parametrize("name", ["Task", "job"])
def test_machines_are_drawn(sqlite_url, name):
    done = Shell(database=sqlite_url)("diagram", name)

    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("stateDiagram-v2")


def test_the_app_is_named_when_it_is_missing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "statejobs", "status"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "--app" in done.stderr
    assert APP not in done.stderr


def test_prune_deletes_what_is_old_and_a_dry_run_counts_it(app, database_url):
    submit(app)
    app.drain()
    nothing = {"cancelled": 0, "discarded": 0}

    kept = Shell(database=database_url)("prune", "--json")
    counted = Shell(database=database_url)(
        "prune", "--older-than", "0s", "--dry-run", "--json"
    )
    deleted = Shell(database=database_url)("prune", "--older-than", "0s")

    assert json.loads(kept.stdout)["jobs"] == {"completed": 0, **nothing}
    assert json.loads(counted.stdout) == {
        "dry_run": True,
        "jobs": {"completed": 1, **nothing},
        "attempts": 0,
        "history": 0,
        "ticks": 0,
    }
    assert "deleted jobs: 1 completed, 0 cancelled" in deleted.stdout
    assert app.queries.jobs() == []


def test_prune_refuses_an_age_without_a_unit(database_url):
    refused = Shell(database=database_url)("prune", "--older-than", "30")

    assert refused.exit_code == 2
    assert "cannot read the age '30'" in refused.stderr


def test_jobs_are_listed_of_a_record_in_each_spelling_of_its_key(typed):
    for key in ("box 7", '"box 7"', '"box\\u00207"'):
        for words in (("--record", key), ("--record", key, "--resource", "parcel")):
            (job,) = typed.json("job", "list", *words)["jobs"]
            assert job["resource"] == "Parcel"
    assert (
        typed("job", "list", "--resource", "Task", "--record", "box 7").exit_code == 3
    )

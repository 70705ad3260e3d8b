"""Errors: three lines on stderr, an exit code, a hint, and never a password or a traceback."""

import json

import pytest

from statejobs.cli.problems import Problem
from tests.cli.conftest import job_of


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["statsu"], "did you mean 'status'?"),
        (["job", "lst"], "did you mean 'list'?"),
        (["job", "list", "--state", "compleeted"], "did you mean 'completed'?"),
        (["job", "list", "--outcome", "superceded"], "did you mean 'superseded'?"),
        (["job", "list", "--queue", "wrk"], "did you mean 'work'?"),
        (["job", "list", "--key", "task.preform"], "did you mean 'task.perform'?"),
        (["job", "list", "--resource", "Tsk"], "did you mean 'Task'?"),
        (["record", "show", "Tsk", "1"], "did you mean 'Task'?"),
        (["diagram", "Parcle"], "did you mean 'Parcel'?"),
        (["job", "list", "--queu", "x"], "'--queue'"),
        (["job", "show", "999"], "the newest job is"),
    ],
)
def test_a_typing_error_gets_a_hint(typed, words, hint):
    result = typed(*words)

    assert hint in result.stderr
    assert result.stdout == ""
    assert is_three_lines(result.stderr)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["status"], 0),
        (["--help"], 0),
        (["--version"], 0),
        (["nothing"], 2),
        (["job", "show", "x"], 2),
        (["job", "list", "--state", "x"], 2),
        (["job", "show", "999"], 3),
        (["job", "show", str(2**70)], 3),
        (["job", "cancel", "999"], 3),
        (["record", "show", "Task", "999"], 3),
        (["record", "show", "Task", "abc"], 3),
        (["record", "show", "Nothing", "1"], 3),
        (["status", "--app", "no_such_module:jobs"], 2),
        (["status", "--database", "junk"], 2),
        (["status", "--database", "sqlite:////no/such/directory/x.db"], 2),
        (["status", "--database", "postgresql://joe:hunter2@127.0.0.1:1/x"], 1),
    ],
)
def test_exit_codes(typed, words, code):
    result = typed(*words)

    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert "hunter2" not in result.output
    if code:
        assert is_three_lines(result.stderr)


def test_what_the_job_itself_does_not_allow_is_refused(typed, work):
    result = typed("job", "cancel", str(job_of(work, "1").id))

    assert result.exit_code == 4
    assert is_three_lines(result.stderr)


def test_missing_tables_name_the_command_that_makes_them(shell, database_url):
    shell.database = database_url

    result = shell("status")

    assert result.exit_code == 2
    assert "statejobs db upgrade" in result.stderr


def test_an_interrupt_ends_with_130(shell, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("statejobs.cli.settings.find_source", interrupt)

    assert shell("status").exit_code == 130


def test_an_error_is_a_document_too(typed):
    result = typed("job", "show", "999", "--json")

    assert json.loads(result.stdout)["error"]["exit_code"] == 3
    assert is_three_lines(result.stderr)


@pytest.mark.parametrize(
    ("words", "why", "fix"),
    [
        (
            ["status", "--database", "junk"],
            "begins with the kind of database",
            "say sqlite:///",
        ),
        (
            ["status", "--database", "mysql://h/x"],
            "SQLite and PostgreSQL",
            "use sqlite:///",
        ),
        (["status", "--database", "sqlite://"], "a database of its own", "use a file"),
        (
            ["status", "--database", "postgresql+pg8000://h/x"],
            "one driver",
            "say 'postgresql",
        ),
    ],
)
def test_a_wrong_configuration_says_why_it_cannot_be_used(shell, words, why, fix):
    result = shell(*words)

    _, shown_why, shown_fix = result.stderr.splitlines()
    assert result.exit_code == 2
    assert why in shown_why
    assert shown_fix.startswith(f"  try: {fix}")


@pytest.mark.parametrize(
    ("fix", "shown"),
    [
        ("Install the newer one", "install the newer one"),
        ("PostgreSQL needs a driver", "PostgreSQL needs a driver"),
        ("CREATE SCHEMA x", "CREATE SCHEMA x"),
        ("Order.submit is one", "Order.submit is one"),
    ],
)
def test_what_to_try_begins_in_lower_case_unless_it_is_a_name(fix, shown):
    assert Problem("what", "why", fix).fix == shown


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["demo", "--orders", "x"], "'x' is not a whole number"),
        (["job", "show", "x"], "'x' is not a whole number"),
        (["worker", "--grace", "x"], "'x' is not a number"),
    ],
)
def test_a_number_is_called_so(shell, words, problem):
    assert problem in shell(*words).stderr.splitlines()[0]


def test_debug_shows_the_traceback(typed):
    assert "Traceback" in typed("status", "--debug", "--database", "junk").stderr


def test_a_bug_is_not_explained_away(shell, monkeypatch):
    def bug(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("statejobs.cli.settings.find_source", bug)

    assert isinstance(shell("status").exception, RuntimeError)


def test_an_option_may_stand_before_the_command(shell, tmp_path):
    shell.app = None
    app = "tests.support.worker_app:make_app"

    result = shell(
        "--app",
        app,
        "--database",
        f"sqlite:///{tmp_path}/x.db",
        "--json",
        "db",
        "upgrade",
    )

    assert json.loads(result.stdout)["to"] == "0005"


def is_three_lines(text):
    """Whether *text* says what, why, and what to type."""
    lines = text.splitlines()
    return [line.split(":")[0].strip() for line in lines] == ["error", "why", "try"]

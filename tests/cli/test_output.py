"""Text for people: plain and whole where it is not a terminal, in colour where it is."""

import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from statejobs.cli.job_text import short_arguments
from statejobs.values.moments import relative
from statejobs.values.shown import decoded
from tests.cli.conftest import job_of
from tests.support.warm import run_in_terminal
from tests.support.worker_app import Task, make_app

ROOT = Path(__file__).parents[2]
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def test_help_imports_nothing_slow():
    code = (
        "import sys, runpy\n"
        "sys.argv = ['statejobs', '--help']\n"
        "try: runpy.run_module('statejobs', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "slow = {'alembic', 'rich', 'sqlalchemy.ext.asyncio', 'psycopg', 'hypothesis'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )

    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "words",
    [["status"], ["job", "list"], ["queue", "list"], ["record", "show", "Task", "3"]],
)
def test_text_is_plain_and_aligned_where_it_is_not_a_terminal(typed, words):
    text = typed(*words).stdout

    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_nothing_is_cut_where_it_is_not_a_terminal(typed, work, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    reason = "a long reason, " * 20

    typed("job", "cancel", str(job_of(work, "2").id), "--reason", reason)

    assert reason.strip() in typed("job", "list").stdout


def test_job_show_tells_the_error_and_what_to_type_next(typed, work):
    job = job_of(work, "3")

    text = typed("job", "show", str(job.id)).stdout

    assert "RuntimeError: the gateway is down" in text
    assert f"statejobs job retry {job.id}" in text


def test_an_empty_list_says_so_on_stderr(typed):
    result = typed("job", "list", "--state", "scheduled")

    assert result.stdout == ""
    assert result.stderr == "no job matches\n"


@pytest.mark.parametrize(
    ("environ", "is_coloured"),
    [
        ({}, True),
        ({"NO_COLOR": ""}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
    ],
    ids=str,
)
def test_a_terminal_gets_colour_unless_it_is_told_not_to(
    sqlite_url, environ, is_coloured
):
    fill(sqlite_url)

    written = in_terminal(
        ["job", "list"], {"STATEJOBS_DATABASE": sqlite_url, **environ}
    )

    assert "Task 1" in written
    assert ("\x1b[31m" in written) == is_coloured
    assert is_coloured or "\x1b" not in written


def test_what_is_piped_is_coloured_when_that_is_forced(typed, monkeypatch):
    plain = (
        typed("db", "upgrade", "--sql").stdout
        + typed("record", "show", "Task", "4").stdout
    )
    monkeypatch.setenv("FORCE_COLOR", "1")

    forced = (
        typed("db", "upgrade", "--sql").stdout
        + typed("record", "show", "Task", "4").stdout
    )

    assert "\x1b[" in forced
    assert re.sub(r"\x1b\[[0-9;]*m", "", forced) == plain


@pytest.mark.parametrize("columns", [80, 50])
@pytest.mark.parametrize(
    "words", [["job", "list"], ["job", "show", "1"], ["record", "show", "Task", "1"]]
)
def test_no_word_is_broken_in_a_narrow_terminal(sqlite_url, words, columns):
    fill(sqlite_url)
    environ = {"STATEJOBS_DATABASE": sqlite_url, "NO_COLOR": "1"}
    wide = in_terminal(words, {**environ, "COLUMNS": "500"})

    narrow = in_terminal(words, {**environ, "COLUMNS": str(columns)})

    lines = narrow.replace("\r\n", "\n").splitlines()
    files = {n for n, line in enumerate(lines) if line.lstrip().startswith("File")}
    # not code
    folded = [line for n, line in enumerate(lines) if not {n, n - 1} & files]
    assert max(len(line.rstrip()) for line in folded) <= columns
    assert set(re.findall(r"[a-z]{4,}", wide)) <= set(re.findall(r"[a-z]{4,}", narrow))


def test_a_list_of_jobs_shows_what_was_raised(typed, work):
    (line,) = [
        line for line in typed("job", "list").stdout.splitlines() if "discarded" in line
    ]

    assert line.endswith("failed: RuntimeError: the gateway is down")
    listed = {job["id"]: job for job in typed.json("job", "list")["jobs"]}
    assert listed[job_of(work, "3").id]["error"] == "RuntimeError: the gateway is down"
    assert listed[job_of(work, "1").id]["error"] is None


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ('{"amount": 5, "to": "Ada"}', 'amount=5, to="Ada"'),
        ("{}", ""),
        ('{"text": "' + "x" * 90 + '"}', 'text="' + "x" * 22 + "…"),
        ('{"a": {"b": [1, 2]}}', 'a={"b": [1, 2]}'),
        ("[1, 2]", "[1, 2]"),
        ("nonsense", "(cannot be read) nonsense"),
    ],
)
def test_arguments_have_a_short_form(stored, shown):
    assert short_arguments(decoded(stored)) == shown


@pytest.mark.parametrize("columns", [80, 50])
@pytest.mark.parametrize("words", [["status"], ["queue", "list"]])
def test_a_terminal_of_any_width_shows_every_queue_whole(sqlite_url, words, columns):
    fill(sqlite_url, is_cancelled=True)

    written = in_terminal(
        words, {"STATEJOBS_DATABASE": sqlite_url, "COLUMNS": str(columns)}
    )

    plain = re.sub(r"\x1b\[[0-9;]*m", "", written)
    assert "…" not in plain
    assert max(map(len, plain.splitlines())) <= max(
        columns, len("database  ") + len(sqlite_url)
    )
    for word in ("work", "slow", "limit", "failed", "cancelled", "workers"):
        assert word in plain.split("Queues")[-1]


@pytest.mark.parametrize("words", [["--help"], ["db", "--help"], ["job", "--help"]])
def test_no_help_is_cut_at_80_columns(shell, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    lines = shell(*words).stdout.splitlines()

    assert [
        line for line in lines if line.endswith("...") and "[ARGS]" not in line
    ] == []


@pytest.mark.parametrize(
    ("away", "text"),
    [
        (timedelta(seconds=3), "3.0 s ago"),
        (timedelta(seconds=90), "90 s ago"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=30), "30 h ago"),
        (timedelta(days=3), "3 d ago"),
        (timedelta(seconds=-20), "in 20 s"),
    ],
)
def test_times_are_told_in_their_largest_unit(away, text):
    assert relative(NOON - away, NOON) == text


def fill(url, *, is_cancelled=False):
    """Let a database have its tables and a job that failed, and one that was cancelled."""
    app = make_app(url)
    app.create_all()
    with app.session() as session:
        session.add(task := Task(does="fail"))
        task.submit()
        session.commit()
        app.drain()
        if is_cancelled:
            session.add(task := Task(id=7))
            task.submit()
            session.commit()
            task.cancel("no need")
            session.commit()
    app.engine.dispose()


def in_terminal(words, environ):
    """What a command writes to a terminal of 80 columns."""
    inherited = {
        k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR"}
    }
    ours = {
        "TERM": "xterm-256color",
        "COLUMNS": "80",
        "STATEJOBS_APP": "tests.support.worker_app:make_app",
    }
    return run_in_terminal(words, {**inherited, **ours, **environ}, *pty.openpty())

"""`schedule list|show|run|pause|resume` at the prompt."""

import pytest

from statejobs.cli.main import cli
from tests.cli.conftest import Shell
from tests.support.clockwork import make_app


@pytest.fixture
def app(database_url):
    with make_app(database_url) as opened:
        opened.create_all()
        yield opened


@pytest.fixture
def typed(app, database_url):
    return Shell(app="tests.support.clockwork:make_app", database=database_url)


def test_list_says_when_they_tick_and_by_which_clock(typed, app):
    app.drain()

    said = typed("schedule", "list").stdout
    listed = typed.json("schedule", "list")["schedules"]

    assert "(Europe/Prague)" in said
    assert [one["key"] for one in listed] == ["prices.import", "report.daily"]
    assert [len(one["next"]) for one in listed] == [3, 3]
    assert listed[1]["next"][0]["local"].endswith("03:00 UTC")


def test_before_a_worker_was_started_they_say_so(typed):
    said = typed("schedule", "list").stdout

    assert "no worker was started since it is declared" in said


def test_pause_names_who_did_it_and_resume_when_it_ticks_again(typed, app, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")

    paused = typed("schedule", "pause", "report.daily")
    listed = typed("schedule", "list").stdout
    resumed = typed("schedule", "resume", "report.daily")

    assert paused.stdout.startswith("report.daily: paused since ")
    assert paused.stdout.endswith("by cli:ada\n")
    assert "by cli:ada" in listed
    assert resumed.stdout.startswith("report.daily: next at ")
    assert app.schedule("report.daily").schedule.paused_at is None


def test_run_makes_a_job_and_a_dry_run_does_not(typed, app):
    dry = typed("schedule", "run", "report.daily", "--dry-run")
    ran = typed("schedule", "run", "report.daily")
    again = typed("schedule", "run", "report.daily")

    assert dry.stdout == "report.daily: a job would be enqueued\n"
    assert ran.stdout == "report.daily: a job is enqueued\n"
    assert again.stdout == "report.daily: skipped: the job of an earlier tick lives\n"
    assert len(app.queries.jobs()) == 1


def test_show_has_the_last_ticks_with_why(typed, app):
    app.run_schedule("report.daily")
    app.run_schedule("report.daily")

    said = typed("schedule", "show", "report.daily").stdout
    page = typed.json("schedule", "show", "report.daily")

    assert "at 03:00" in said
    assert "the job of an earlier tick lives" in said
    assert [tick["reason"] for tick in page["ticks"]] == [
        "the job of an earlier tick lives",
        None,
    ]


@pytest.mark.parametrize("command", ["show", "run", "pause", "resume"])
def test_a_key_that_nobody_knows_is_not_found(typed, command):
    result = typed("schedule", command, "report.dayli")

    assert result.exit_code == 3
    assert "did you mean 'report.daily'?" in result.stderr


def test_keys_are_completed(typed):
    environ = {
        "STATEJOBS_APP": typed.app,
        "STATEJOBS_DATABASE": typed.database,
        "_STATEJOBS_COMPLETE": "bash_complete",
        "COMP_WORDS": "statejobs schedule show rep",
        "COMP_CWORD": "3",
    }

    result = typed.runner.invoke(cli, [], env=environ, prog_name="statejobs")

    assert "report.daily" in result.stdout

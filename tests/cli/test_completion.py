"""The shell completes what the app has, and an app that is broken completes nothing."""

from pathlib import Path

import pytest

from statejobs.cli.main import cli


@pytest.fixture
def completed(shell, sqlite_url):
    """Returns what bash is offered after some words."""

    def complete(*words, app="tests.support.worker_app:make_app"):
        environ = {
            "_STATEJOBS_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["statejobs", *words]),
            "COMP_CWORD": str(len(words)),
            "STATEJOBS_APP": app,
            "STATEJOBS_DATABASE": sqlite_url,
        }
        result = shell.runner.invoke(cli, [], env=environ, prog_name="statejobs")
        assert result.exit_code == 0, result.output
        return [line.partition(",")[2] for line in result.stdout.splitlines() if line]

    return complete


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["job", "l"], ["list"]),
        (["job", "list", "--state", "c"], ["completed", "cancelled"]),
        (["job", "list", "--outcome", "s"], ["stale", "superseded"]),
        (["job", "list", "--queue", "w"], ["work"]),
        (["job", "list", "--key", "task."], ["task.perform"]),
        (["job", "list", "--resource", "p"], ["Parcel"]),
        (["record", "show", "Ta"], ["Task"]),
        (["diagram", "Cra"], ["Crate"]),
        (["worker", "--queues", "sl"], ["slow"]),
        (["worker", "--domain", "w"], ["work"]),
        (["worker", "--log-format", "j"], ["json"]),
        (["schedule", "next", "--timezone", "europe/pra"], ["Europe/Prague"]),
    ],
    ids=" ".join,
)
def test_names_are_completed(completed, sqlite_url, words, offered):
    assert completed(*words) == offered
    assert not Path(
        sqlite_url.removeprefix("sqlite:///")
    ).exists()  # no database was asked


@pytest.mark.parametrize("app", ["nowhere:app", "tests.support.worker_app:Base"])
def test_an_app_that_is_broken_completes_nothing(completed, app):
    assert completed("record", "show", "Ta", app=app) == []

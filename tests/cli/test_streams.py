"""A reader that goes away, a full disk and a closed stream end no command in a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import job_of

ROOT = Path(__file__).parents[2]


def run(typed, words, redirection):
    """Run a command in a shell; return its exit code, and what it said on stderr."""
    command = " ".join([sys.executable, "-m", "statejobs", *words, redirection])
    environ = {
        **os.environ,
        "STATEJOBS_APP": typed.app,
        "STATEJOBS_DATABASE": typed.database,
        "PYTHONUNBUFFERED": "",
    }
    process = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    return process.returncode, process.stderr


@pytest.mark.parametrize("words", [["status"], ["job", "list", "--json"], ["--help"]])
def test_a_reader_that_ends_early_is_no_error(typed, words):
    assert run(typed, words, "| true") == (0, "")


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-"])
def test_what_cannot_be_written_is_one_line_and_a_failure(typed, redirection):
    code, said = run(typed, ["status"], redirection)

    assert code == 1
    assert said.startswith("error: standard output could not be written: ")
    assert said.count("\n") == 1


def test_nothing_is_said_to_a_closed_stderr(typed):
    assert run(typed, ["job", "show", "999"], "2>&-") == (3, "")


def test_a_command_acts_to_its_end_though_nobody_reads(typed, work):
    ended, waiting = job_of(work, "3"), job_of(work, "2")

    code, _ = run(typed, ["job", "cancel", str(ended.id), str(waiting.id)], "| true")

    assert code == 4  # what ended cannot be cancelled; the other was, after it
    assert str(job_of(work, "2").state) == "cancelled"

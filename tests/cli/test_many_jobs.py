"""`job retry|cancel|delete|edit` of all that match: counted, asked for, done, and told."""

import pytest

from statejobs.cli.main import cli
from statejobs.people.handled import Handled
from statejobs.people.selection import Selection
from tests.cli.conftest import job_of, state_of


def test_many_are_retried_when_that_is_said(typed, work):
    document = typed.json("job", "retry", "--state", "discarded", "--yes")

    assert document == {
        "matched": 1,
        "interrupted": False,
        "done": 1,
        "asked": 0,
        "locked": 0,
        "refused": [],
    }
    assert state_of(work, 3) == "queued"
    assert work.queries.transitions("Task", "3")[-1]["actor"].startswith("cli:")


def test_off_a_terminal_nothing_is_done_without_yes(typed, work):
    before = work.queries.counts()

    result = typed("job", "cancel", "--queue", "work")

    assert result.exit_code == 2
    assert "jobs would be cancelled" in result.stderr
    assert "--yes" in result.stderr
    assert work.queries.counts() == before


@pytest.mark.parametrize("command", ["retry", "cancel", "delete"])
def test_a_dry_run_changes_nothing(typed, work, command):
    before = work.queries.counts()

    result = typed("job", command, "--queue", "work", "--dry-run")

    assert result.exit_code == 0
    assert "nothing was changed" in result.stderr
    assert work.queries.counts() == before


def test_a_dry_run_of_ids_shows_these(typed, work):
    job = job_of(work, "3")

    document = typed.json("job", "delete", str(job.id), "--dry-run")

    assert [one["id"] for one in document["jobs"]] == [job.id]
    assert work.queries.job(job.id) == job


@pytest.mark.parametrize(
    ("answer", "ends"), [("y", (0, "queued")), ("n", (130, "failed"))]
)
def test_on_a_terminal_it_is_asked_for(typed, work, monkeypatch, answer, ends):
    monkeypatch.setattr("statejobs.cli.jobs_at_hand.can_be_asked", lambda: True)

    result = typed.runner.invoke(
        cli,
        ["job", "retry", "--state", "discarded"],
        input=f"{answer}\n",
        env={"STATEJOBS_APP": typed.app, "STATEJOBS_DATABASE": typed.database},
        prog_name="statejobs",
    )

    assert "1 job matches\nretry it? [y/N]" in result.stderr
    assert (result.exit_code, state_of(work, 3)) == ends


def test_what_is_interrupted_says_how_far_it_came(typed, monkeypatch):
    def interrupted(_selection, *, on_batch):
        on_batch(Handled(done=500))
        raise KeyboardInterrupt

    monkeypatch.setattr(Selection, "retry", interrupted)

    result = typed("job", "retry", "--queue", "work", "--yes")

    assert result.exit_code == 130
    assert result.stdout == "500 retried\n"
    assert "the same again goes on" in result.stderr


def test_a_long_way_is_told_in_between(typed, monkeypatch):
    def long(_selection, *, on_batch):
        for done in range(500, 10_001, 500):
            on_batch(Handled(done=done))

    monkeypatch.setattr(Selection, "delete", long)

    result = typed("job", "delete", "--queue", "work", "--yes")

    _, *told = result.stderr.splitlines()
    assert [line.split()[:2] for line in told] == [["5000", "of"], ["10000", "of"]]


def test_what_is_refused_is_counted_by_reason_and_ends_with_4(typed):
    result = typed("job", "edit", "--state", "completed", "--priority", "1", "--yes")

    assert result.exit_code == 4
    assert "it is completed: retry it instead." in result.stdout


def test_what_others_hold_ends_with_1(typed, monkeypatch):
    held = Handled(locked=2)
    monkeypatch.setattr(Selection, "retry", lambda _self, on_batch: on_batch(held))

    result = typed("job", "retry", "--queue", "work", "--yes")

    assert result.exit_code == 1
    assert result.stdout == "2 held by others or changed meanwhile\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["retry"], "name jobs by their ids, or by filters such as --state"),
        (["retry", "1", "--queue", "work"], "give ids or filters, not both"),
        (["edit", "1"], "nothing to change: give --run-at, --priority or --to-queue"),
        (["edit", "1", "--priority", "10"], "10 is not in the range 0<=x<=9"),
        (["edit", "1", "--run-at", "2030-01-01"], "cannot read the time '2030-01-01'"),
        (["delete", "--state", "discardd", "--yes"], "did you mean 'discarded'?"),
        (["delete", "--older-than", "5", "--yes"], "cannot read the age '5'"),
    ],
)
def test_wrong_usage_is_told(typed, words, says):
    result = typed("job", *words)

    assert result.exit_code == 2
    assert says in result.stderr


def test_a_name_that_nobody_knows_is_not_found(typed):
    result = typed("job", "delete", "--key", "task.prform", "--yes")

    assert result.exit_code == 3
    assert "did you mean 'task.perform'?" in result.stderr


@pytest.mark.parametrize(
    "meant", [["3"], ["--queue", "work"], ["--queue", "work", "--dry-run"]]
)
def test_a_queue_that_nobody_knows_is_told_before_anything_is_asked(typed, meant):
    result = typed("job", "edit", *meant, "--to-queue", "wrok")

    assert (result.exit_code, result.stdout) == (3, "")
    assert "no queue 'wrok'" in result.stderr
    assert "did you mean 'work'?" in result.stderr
    assert "match" not in result.stderr


def test_nothing_that_matches_is_no_error(typed):
    result = typed("job", "delete", "--tag", "nothing", "--yes")

    assert (result.exit_code, result.stderr) == (0, "no job matches\n")
    assert typed.json("job", "delete", "--tag", "nothing", "--yes")["matched"] == 0

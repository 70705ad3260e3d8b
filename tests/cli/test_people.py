"""`job retry` and `job cancel`: through the machine of the record, never past it."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import update

from statejobs.store.nodes import register_node
from statejobs.store.tables import jobs
from statejobs.values.job import JobState
from tests.cli.conftest import job_of, state_of
from tests.support.services import run_service
from tests.support.worker_app import S, Task


def test_retry_of_a_discarded_job_fires_the_declared_transition(typed, work):
    job = job_of(work, "3")

    document = typed.json("job", "retry", str(job.id))

    assert document == {"jobs": [{"id": job.id, "state": "queued", "error": None}]}
    assert state_of(work, 3) == "queued"
    last = work.queries.transitions("Task", "3")[-1]
    assert (last["name"], last["source"], last["target"]) == (
        "retry",
        "failed",
        "queued",
    )
    assert last["actor"].startswith("cli:")


def test_retry_asks_the_guards_of_that_transition(typed, work):
    with work.session() as session:
        session.get(Task, 3).note = "locked"
        session.commit()

    result = typed("job", "retry", str(job_of(work, "3").id))

    assert result.exit_code == 4
    assert "It is locked." in result.stderr
    assert state_of(work, 3) == "failed"


def test_a_stuck_record_is_listed_and_retry_moves_it_back(typed, work):
    job = job_of(work, "3")
    with work.engine.begin() as connection:
        reason = "stuck: its record cannot be moved: not today"
        connection.execute(
            update(jobs)
            .where(jobs.c.id == job.id)
            .values(reason=reason, record_source="queued")
        )
        connection.execute(
            update(Task.__table__)
            .where(Task.__table__.c.id == 3)
            .values(state=S.PROCESSING)
        )

    assert [stuck["id"] for stuck in typed.json("status")["stuck"]] == [job.id]
    page = typed("status").stdout
    assert "its record cannot be moved: not today" in page
    assert "stuck: " not in page  # the heading says so
    shown = typed("record", "show", "Task", "3").stdout
    assert "stuck in 'processing'" in shown
    assert f"statejobs job retry {job.id}" in shown

    assert typed("job", "retry", str(job.id)).exit_code == 0

    assert state_of(work, 3) == "queued"
    assert work.queries.transitions("Task", "3")[-1]["name"] == "rescue"
    assert typed.json("status")["stuck"] == []


def test_a_record_that_cannot_be_moved_back_yet_is_on_the_page_and_in_the_list(
    typed, work
):
    job = job_of(work, "3")
    reason = "its record cannot be moved: not today"
    with work.engine.begin() as connection:
        connection.execute(
            update(jobs)
            .where(jobs.c.id == job.id)
            .values(state="processing", owner=None, reason=reason, finished_at=None)
        )

    assert [held["id"] for held in typed.json("status")["put_aside"]] == [job.id]
    assert reason in typed("status").stdout
    assert reason in typed("job", "list", "--state", "processing").stdout


def test_cancel_moves_the_record_to_its_failed_state(typed, work):
    job = job_of(work, "2")

    result = typed("job", "cancel", str(job.id), "--reason", "the customer rang")

    assert result.exit_code == 0
    assert state_of(work, 2) == "failed"
    cancelled = work.queries.job(job.id)
    assert cancelled.state is JobState.CANCELLED
    assert cancelled.reason.startswith("the customer rang (asked by cli:")
    last = work.queries.transitions("Task", "2")[-1]
    assert last["reason"] == "the customer rang"
    assert last["actor"].startswith("cli:")


@pytest.mark.parametrize("reason", [("--reason", "no need"), ()])
@pytest.mark.parametrize("attempts", [0, 1])
def test_who_cancelled_a_waiting_job_is_shown(typed, work, reason, attempts):
    job = job_of(work, "2")
    with work.engine.begin() as connection:
        connection.execute(
            update(jobs).where(jobs.c.id == job.id).values(attempt=attempts)
        )

    typed("job", "cancel", str(job.id), *reason)

    last = work.queries.transitions("Task", "2")[-1]
    assert last["actor"].startswith("cli:")
    assert (last["job_id"], last["attempt"]) == (job.id, None)
    for words in (("job", "show", str(job.id)), ("record", "show", "Task", "2")):
        lines = typed(*words).stdout.splitlines()
        (line,) = [line for line in lines if "queued → failed" in line]
        assert last["actor"] in line
    assert f"(asked by {last['actor']})" in typed("job", "show", str(job.id)).stdout


def test_a_job_whose_trigger_is_gone_can_be_cancelled(typed, work):
    job = job_of(work, "2")
    with work.engine.begin() as connection:
        connection.execute(
            update(jobs).where(jobs.c.id == job.id).values(key="task.removed")
        )

    assert typed("job", "cancel", str(job.id)).exit_code == 0
    assert work.queries.job(job.id).state is JobState.CANCELLED


def test_the_others_go_on_when_one_of_several_jobs_is_refused(typed, work):
    done, failed = job_of(work, "1"), job_of(work, "2")

    result = typed("job", "retry", "999", str(done.id), str(failed.id))

    assert result.exit_code == 3
    assert f"job {failed.id} retried; it is queued now" in result.stdout
    assert "no job 999" in result.stderr
    assert "cannot 'retry'" in result.stderr


def test_json_names_what_became_of_each_job(typed, work):
    job = job_of(work, "1")

    document = typed.json("job", "cancel", str(job.id), "999", exit_code=4)

    refused, missing = document["jobs"]
    assert (
        refused["error"]["why"] == "it is completed: there is nothing left to cancel."
    )
    assert missing["error"]["exit_code"] == 3


@pytest.mark.parametrize(
    "words",
    [
        ["job", "--json", "list"],
        ["--json", "job", "list"],
        ["job", "list", "--json"],
        ["queue", "--json", "list"],
        ["db", "--json", "check"],
        ["record", "--json", "show", "Task", "3"],
    ],
    ids=" ".join,
)
def test_common_options_stand_anywhere(typed, words):
    assert json.loads(typed(*words).stdout)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("STATEJOBS_GRACE", "nan", "'nan' is not a number of seconds"),
        ("STATEJOBS_PROCESSES", "0", "0 is not in the range"),
        ("STATEJOBS_QUEUES", "work:none", "cannot read queue 'work:none'"),
        ("STATEJOBS_LOG_LEVEL", "loud", "'loud' is not one of"),
        ("STATEJOBS_LOG_FORMAT", "xml", "'xml' is not one of"),
    ],
)
def test_options_of_a_worker_are_read_from_the_environment(
    typed, monkeypatch, variable, value, said
):
    monkeypatch.setenv(variable, value)

    result = typed("worker")

    assert result.exit_code == 2
    assert said in result.stderr


def test_a_drain_at_the_prompt_prints_one_line(work):
    assert repr(work.drain(queues=["work"])) == "<DrainResult: nothing to run>"
    work.retry_job(job_of(work, "3").id)
    assert repr(work.drain(queues=["work"])) == "<DrainResult: 1 fail>"


def test_a_worker_that_died_is_listed_for_five_minutes(typed, work):
    worker = work.worker()
    now = work.sources.clock.now()
    for name, ago in (("lives", 1), ("died", 250), ("long-ago", 310)):
        register_node(
            work.store,
            {
                "id": name,
                "host": "h",
                "pid": 1,
                "queues": "{}",
                "version": "1",
                "started_at": now,
                "beat_at": now - timedelta(seconds=ago),
            },
        )

    listed = {w["node"]: w["lives"] for w in typed.json("status")["workers"]}
    run_service(worker, "forget")

    assert listed == {"lives": True, "died": False}
    assert {row["id"] for row in work.queries.nodes()} == {"lives", "died"}


def test_a_job_says_until_when_its_key_is_held(typed, work):
    until = work.sources.clock.now() + timedelta(hours=2)
    held = update(jobs).where(jobs.c.id == 1).values(unique_until=until)
    with work.engine.begin() as connection:
        connection.execute(held)

    said = typed("job", "show", "1").stdout

    (line,) = [one for one in said.splitlines() if one.startswith("unique until")]
    assert "(in " in line
    assert typed.json("job", "show", "1")["job"]["unique_until"] is not None
    assert "unique until" not in typed("job", "show", "2").stdout

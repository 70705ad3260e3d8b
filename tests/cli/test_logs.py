"""The log of a worker says how an attempt ended, and why."""

import json
import logging
import threading
from datetime import timedelta

import pytest
from msgspec import structs
from sqlalchemy import text

from statejobs.cli.logs import JsonLines, TextLines, _log_end_of_thread
from statejobs.cli.worker_child import _named, _what_it_holds
from statejobs.events import JobEnded
from statejobs.runner.joblog import log_event
from statejobs.runner.port import Claim, Policy
from statejobs.values.clock import utcnow
from statejobs.values.job import JobOutcome
from tests.cli.conftest import job_of
from tests.support.worker_app import Task


@pytest.fixture
def logged(work, caplog):
    """Runs a task that fails; returns the line of its attempt in one of the two formats."""
    caplog.set_level(logging.INFO, "statejobs.jobs")
    work.telemetry.subscribe(log_event)

    def run(formatter, does="fail"):
        with work.session() as session:
            task = Task(id=50, does=does)
            session.add(task)
            task.submit()
            session.commit()
            record_id = str(task.id)
        caplog.clear()
        work.drain(queues=["work"])
        (record,) = [
            r for r in caplog.records if f"(Task {record_id})" in r.getMessage()
        ]
        return record, formatter.format(record), job_of(work, record_id)

    return run


def test_a_failure_tells_the_error_and_when_it_runs_again(logged):
    record, line, job = logged(TextLines())

    assert record.levelname == "WARNING"
    assert (
        f"job {job.id} task.perform (Task {job.record_id}), attempt 1 of 2 (0." in line
    )
    assert "): failed: RuntimeError: the gateway is down; again in 1" in line
    assert line.endswith(" s")


def test_success_is_one_word(logged):
    record, line, _ = logged(TextLines(), does="nothing")

    assert record.levelname == "INFO"
    assert line.endswith("): completed")


def test_a_json_line_has_the_fields_of_the_job(logged):
    _, line, job = logged(JsonLines())

    entry = json.loads(line)
    assert (entry["job_id"], entry["key"], entry["queue"]) == (
        job.id,
        "task.perform",
        "work",
    )
    assert (entry["resource"], entry["record_id"]) == ("Task", job.record_id)
    assert (entry["attempt"], entry["max_attempts"]) == (1, 2)
    assert (entry["outcome"], entry["state"]) == ("fail", "failed")
    assert (entry["error_type"], entry["error_message"]) == (
        "RuntimeError",
        "the gateway is down",
    )
    assert entry["run_at"].endswith("Z")
    assert entry["message"].startswith(f"job {job.id} ")


def test_a_job_that_is_cancelled_as_stale_leaves_a_line(work, caplog):
    caplog.set_level(logging.INFO, "statejobs.jobs")
    work.telemetry.subscribe(log_event)
    job = job_of(work, '"box 7"', "Parcel")
    with work.engine.begin() as connection:
        # past the machine, which would cancel the job
        connection.execute(text("UPDATE parcels SET state = 'failed'"))

    work.drain(queues=["slow"])

    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert record.getMessage() == (
        f"job {job.id}: cancelled, since it is stale: its record is in 'failed', and 'carry' "
        "starts from 'queued'"
    )
    entry = json.loads(JsonLines().format(record))
    assert (entry["job_id"], entry["outcome"]) == (job.id, "stale")


def ended(work, **fields):
    """Tell that an attempt of a job ended."""
    told = {
        "outcome": "fail",
        "state": "failed",
        "job_outcome": None,
        "duration": 0.1,
        "reason": None,
        "run_at": None,
        "is_overtaken": False,
    }
    job = job_of(work, "1")
    log_event(JobEnded(**{"job": job, "failure": None, **told, **fields}))


def test_what_is_due_when_its_line_is_written_is_due_at_once(work, caplog):
    ended(work, run_at=utcnow() - timedelta(seconds=0.1))

    assert caplog.records[-1].getMessage().endswith("failed; again at once")


@pytest.mark.parametrize("outcome", ["give_back", "release"])
def test_no_line_says_twice_that_its_job_is_given_back(work, caplog, outcome):
    caplog.set_level(logging.INFO, "statejobs.jobs")

    ended(work, outcome=outcome, reason="given back: it had waited here for its turn")

    assert caplog.records[-1].getMessage().count("given back") == 1


@pytest.mark.parametrize(
    ("edge", "outcome", "level"),
    [
        ("complete", JobOutcome.COMPLETED, "INFO"),
        ("cancel", JobOutcome.STALE, "INFO"),
        ("cancel", None, "INFO"),
        ("cancel", JobOutcome.CANCELLED, "WARNING"),
        ("cancel", JobOutcome.SUPERSEDED, "WARNING"),
        ("fail", None, "WARNING"),
        ("discard", JobOutcome.FAILED, "ERROR"),
        ("discard", JobOutcome.CRASHED, "ERROR"),
    ],
)
def test_what_is_stale_or_goes_on_is_no_warning(work, caplog, edge, outcome, level):
    caplog.set_level(logging.INFO, "statejobs.jobs")

    ended(work, outcome=edge, job_outcome=outcome, reason="whatever it says")
    told = caplog.records[-1]

    assert told.levelname == level
    assert told.statejobs["job_outcome"] is outcome


def test_what_a_declared_move_overtook_is_no_warning(work, caplog):
    caplog.set_level(logging.INFO, "statejobs.jobs")

    how = {"outcome": "cancel", "job_outcome": JobOutcome.SUPERSEDED}
    ended(work, **how, is_overtaken=True)

    assert caplog.records[-1].levelname == "INFO"


def held(job, *, has_begun):
    policy = Policy(
        max_attempts=1,
        max_crashes=1,
        max_snoozes=1,
        backoff=timedelta(1),
        timeout=None,
        is_async=False,
    )
    return Claim(
        job=job, subject=None, policy=policy, work=None, began=0, has_begun=has_begun
    )


def test_a_stop_does_not_call_running_what_only_waits_for_a_slot(work):
    job, now = structs.replace(job_of(work, "1"), started_at=utcnow()), utcnow()
    waiting = [held(job, has_begun=False)] * 255

    said = _what_it_holds([held(job, has_begun=True), *waiting], now, 3)

    assert said.startswith("up to 3 s for 1 running job(s): ")
    assert "; 255 more that had not begun are given back. Signal again" in said
    assert _what_it_holds(waiting, now, 3).startswith("no job is running; 255 more")
    assert _what_it_holds([], now, 3) == "no job is running"


def test_jobs_of_a_stopping_worker_are_named_with_their_records(work):
    job, now = job_of(work, "1"), utcnow()

    with_record = _named(structs.replace(job, started_at=now), now)
    without = _named(
        structs.replace(job, resource=None, record_id=None, started_at=now), now
    )

    assert with_record == f"{job.id} task.perform (Task 1, 0.0 s)"
    assert without == f"{job.id} task.perform (0.0 s)"


def test_what_ends_a_thread_is_a_line_of_the_log(caplog, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", _log_end_of_thread)
    thread = threading.Thread(target=lambda: 1 / 0, name="lost")

    thread.start()
    thread.join()

    assert caplog.records[-1].getMessage() == "lost ended"
    assert "ZeroDivisionError" in TextLines().format(caplog.records[-1])

"""The log of a worker says how an attempt ended, and why."""

import json
import logging

import pytest

from statejobs.cli.logs import JsonLines, TextLines, log_event
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
        (record,) = [r for r in caplog.records if f"(Task {record_id})" in r.getMessage()]
        return record, formatter.format(record), job_of(work, record_id)

    return run


def test_a_failure_tells_the_error_and_when_it_runs_again(logged):
    record, line, job = logged(TextLines())

    assert record.levelname == "WARNING"
    assert f"job {job.id} task.perform (Task {job.record_id}), attempt 1 of 2 (0." in line
    assert "): failed: RuntimeError: the gateway is down; again in 1" in line
    assert line.endswith(" s")


def test_success_is_one_word(logged):
    record, line, _ = logged(TextLines(), does="nothing")

    assert record.levelname == "INFO"
    assert line.endswith("): completed")


def test_a_json_line_has_the_fields_of_the_job(logged):
    _, line, job = logged(JsonLines())

    entry = json.loads(line)
    assert (entry["job_id"], entry["key"], entry["queue"]) == (job.id, "task.perform", "work")
    assert (entry["resource"], entry["record_id"]) == ("Task", job.record_id)
    assert (entry["attempt"], entry["max_attempts"]) == (1, 2)
    assert (entry["outcome"], entry["state"]) == ("fail", "failed")
    assert (entry["error_type"], entry["error_message"]) == ("RuntimeError", "the gateway is down")
    assert entry["run_at"].endswith("Z")
    assert entry["message"].startswith(f"job {job.id} ")

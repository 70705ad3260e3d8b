"""Real processes, real signals."""

import re
import signal
import time
from pathlib import Path

from sqlalchemy import event

from statejobs import JobState, WorkerSettings
from tests.support.processes import DEADLINE, eventually, kill, worker
from tests.support.worker_app import Task, make_app
from tests.worker.conftest import job, parcel, send_parcel


def runner_pid(app, *, other_than=()):
    """Return the pid of the process that holds the job."""
    found = job(app)
    if found.state is not JobState.PROCESSING:
        return None
    pids = [node["pid"] for node in app.queries.nodes() if node["id"] == found.owner]
    return pids[0] if pids and pids[0] not in other_than else None


def test_a_job_whose_worker_was_killed_runs_again(app, database_url, tmp_path):
    go_on = tmp_path / "go"
    send_parcel(app, go_on)

    with worker(database_url, tmp_path / "log"):
        first = eventually(lambda: runner_pid(app))
        kill(first, signal.SIGKILL)
        second = eventually(lambda: runner_pid(app, other_than=(first,)))
        go_on.touch()
        eventually(lambda: job(app).state is JobState.COMPLETED)

    assert parcel(app).note == f"carried by {second}"
    assert (job(app).attempt, job(app).crashes) == (2, 1)
    assert [row["outcome"] for row in app.queries.attempts(job(app).id)] == ["crashed"]


def test_a_worker_that_was_paused_past_its_lease_cannot_finish(
    app, database_url, tmp_path
):
    go_on = tmp_path / "go"
    log = tmp_path / "log"
    send_parcel(app, go_on)

    with worker(database_url, log):
        paused = eventually(lambda: runner_pid(app))
        kill(paused, signal.SIGSTOP)
        with worker(database_url, tmp_path / "log2"):
            second = eventually(lambda: runner_pid(app, other_than=(paused,)))
            go_on.touch()
            eventually(lambda: job(app).state is JobState.COMPLETED)
            kill(paused, signal.SIGCONT)
            eventually(lambda: "late result" in log.read_text())

    assert parcel(app).note == f"carried by {second}"
    names = [row["name"] for row in app.queries.transitions("Parcel", '"one"')]
    assert names.count("carry.complete") == 1


def test_a_stopping_worker_waits_for_its_job(app, database_url, tmp_path):
    go_on = tmp_path / "go"
    send_parcel(app, go_on)

    with worker(database_url, tmp_path / "log") as process:
        eventually(lambda: runner_pid(app))
        process.send_signal(signal.SIGTERM)
        go_on.touch()
        code = process.wait(DEADLINE)

    assert (code, job(app).state, job(app).attempt) == (0, JobState.COMPLETED, 1)


def test_a_second_signal_gives_the_job_back_with_its_attempt(
    app, database_url, tmp_path
):
    send_parcel(app, tmp_path / "never")

    with worker(database_url, tmp_path / "log", "--grace", "60") as process:
        eventually(lambda: runner_pid(app))
        process.send_signal(signal.SIGTERM)
        eventually(lambda: "stop" in (tmp_path / "log").read_text().lower())
        process.send_signal(signal.SIGTERM)
        code = process.wait(DEADLINE)

    assert code == 0
    assert (job(app).state, job(app).attempt) == (JobState.QUEUED, 0)
    assert parcel(app).state == "queued"


def test_a_thread_that_hangs_past_its_timeout_fails_and_its_process_is_replaced(
    app, database_url, tmp_path
):
    with app.session() as session:
        hangs, works = Task(does="hang"), Task()
        session.add_all([hangs, works])
        hangs.submit()
        works.submit()
        session.commit()

    with worker(database_url, tmp_path / "log"):
        eventually(app.queries.nodes)
        before = {node["pid"] for node in app.queries.nodes()}
        eventually(lambda: app.queries.counts()["work"].get("completed") == 1)
        eventually(lambda: app.queries.counts()["work"].get("failed") == 1)
        eventually(lambda: {n["pid"] for n in app.queries.nodes()} - before)

    (failed,) = app.queries.jobs(states=[JobState.FAILED])
    (row,) = app.queries.attempts(failed.id)
    assert row["error_type"] == "TimeoutError"


def test_three_processes_run_every_order_once(app, database_url, tmp_path):
    with app.session() as session:
        tasks = [Task() for _ in range(300)]
        session.add_all(tasks)
        for task in tasks:
            task.submit()
        session.commit()

    with worker(database_url, tmp_path / "log", "--processes", "3"):
        eventually(lambda: app.queries.counts()["work"].get("completed") == 300)

    for task in tasks[::50]:
        rows = app.queries.transitions("Task", str(task.id))
        assert [row["name"] for row in rows] == [
            "create",
            "submit",
            "do_it.start",
            "do_it.complete",
        ]


def test_a_stop_amid_many_short_jobs_leaves_none_behind(app, database_url, tmp_path):
    with app.session() as session:
        tasks = [Task() for _ in range(500)]
        session.add_all(tasks)
        for task in tasks:
            task.submit()
        session.commit()

    with worker(database_url, tmp_path / "log") as process:
        eventually(lambda: app.queries.counts()["work"].get("completed"))
        process.send_signal(signal.SIGTERM)
        code = process.wait(DEADLINE)

    counts = app.queries.counts()["work"]
    assert code == 0
    assert not counts.get("processing")
    assert counts["completed"] + counts.get("queued", 0) == 500
    queued = app.queries.jobs(states=[JobState.QUEUED], limit=500)
    assert {job.attempt for job in queued} <= {0}


def test_an_idle_worker_asks_little(app):
    statements = []
    idle = make_app(app.engine, settings=WorkerSettings())
    event.listen(
        app.engine, "before_cursor_execute", lambda *a: statements.append(a[2])
    )

    with idle.running():
        eventually(lambda: len(statements) > 2)
        time.sleep(1.5)  # noqa: TID251 - it looks about when it starts, and when it listens
        statements.clear()
        time.sleep(5)  # noqa: TID251
        asked = [
            statement for statement in statements if not statement.startswith("BEGIN")
        ]

    assert len(asked) <= 10, statements


def test_a_signal_before_the_worker_has_started_stops_it_in_order(
    app, database_url, tmp_path
):
    log = tmp_path / "log"

    with worker(database_url, log) as process:
        eventually(lambda: catches(process.pid, signal.SIGTERM))
        process.send_signal(signal.SIGTERM)

        assert process.wait(DEADLINE) == 0
    assert "SIGTERM: stopping" in log.read_text()


def catches(pid, number):
    """Whether the process has a handler for the signal."""
    (mask,) = re.findall(
        r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
    )
    return int(mask, 16) >> (number - 1) & 1

"""`statejobs worker` as processes and signals."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.processes import eventually
from tests.support.worker_app import make_app
from tests.worker.conftest import (
    Running,
    is_alive,
    job,
    parcel,
    send_parcel,
    submit_task,
    task,
    wait_until_carried,
)

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")

GRACE = 60  # seconds


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_ends_at_once_with_0(file_app, start_worker, number):
    running = start_worker(file_app, "--grace", str(GRACE))
    began = time.monotonic()

    running.signal(number)

    assert running.end() == 0
    assert time.monotonic() - began < GRACE
    assert file_app.queries.nodes() == []
    assert "stopping: no job is running" in running.said()
    assert "Traceback" not in running.said()


def test_nothing_is_claimed_while_a_stopping_worker_waits_for_its_job(
    file_app, start_worker, tmp_path
):
    send_parcel(file_app, tmp_path / "go")
    running = start_worker(file_app)
    wait_until_carried(tmp_path / "go")

    running.signal()
    running.wait_for("1 running job(s): 1 parcel.ship (Parcel")
    late = submit_task(file_app)
    (tmp_path / "go").touch()

    assert running.end() == 0
    assert parcel(file_app).state == "completed"
    assert task(file_app, late).state == "queued"  # claimed by nobody after the signal


def test_signals_to_the_whole_group_count_once(file_app, start_worker, tmp_path):
    send_parcel(file_app, tmp_path / "go")
    running = start_worker(file_app, "--grace", str(GRACE))
    wait_until_carried(tmp_path / "go")

    os.killpg(running.pid, signal.SIGINT)  # Ctrl-C
    running.wait_for("SIGINT: stopping 1 worker")
    time.sleep(0.3)  # noqa: TID251 - nothing is to happen
    assert parcel(file_app).state == "processing"
    (tmp_path / "go").touch()

    assert running.end() == 0
    assert parcel(file_app).state == "completed"


def test_what_does_not_end_within_the_grace_is_given_back(
    file_app, start_worker, tmp_path
):
    send_parcel(file_app, tmp_path / "never")
    running = start_worker(file_app, "--grace", "0.3")
    wait_until_carried(tmp_path / "never")

    running.signal()

    assert running.end() == 0
    assert (parcel(file_app).state, job(file_app).attempt) == ("queued", 0)


def test_children_end_when_their_supervisor_dies(file_app, start_worker, tmp_path):
    send_parcel(file_app, tmp_path / "go")
    running = start_worker(file_app)
    wait_until_carried(tmp_path / "go")
    (child,) = running.children()

    os.kill(running.pid, signal.SIGKILL)
    running.wait_for("running job(s)")
    (tmp_path / "go").touch()

    eventually(lambda: not is_alive(child))
    assert parcel(file_app).state == "completed"
    assert file_app.queries.nodes() == []


def test_two_processes_are_two_nodes(app, start_worker):
    running = start_worker(app, "--processes", "2", "--queues", "work:1", count=2)

    nodes = app.queries.nodes()
    assert {node["pid"] for node in nodes} == set(running.children())
    assert {node["queues"] for node in nodes} == {'{"work":1}'}
    running.signal()
    assert running.end() == 0
    assert app.queries.nodes() == []


def test_a_thread_that_cannot_be_stopped_recycles_its_process(file_app, start_worker):
    hanging = submit_task(file_app, "hang")
    running = start_worker(file_app, "--json")
    running.wait_for("worker started", count=2)
    later = submit_task(file_app)
    eventually(lambda: task(file_app, later).state == "completed")
    first, second = running.children()

    assert "is replaced now" in running.said()
    assert task(file_app, later).note == f"done by {second}"
    assert task(file_app, hanging).state in {"queued", "processing"}
    assert not is_alive(first)
    running.signal()
    assert running.end() == 0
    tally = json.loads(running.process.stdout.read())
    assert (tally["started"], tally["recycled"], tally["died"]) == (2, 1, 0)


def test_sigusr1_prints_what_every_thread_does(file_app, start_worker, tmp_path):
    send_parcel(file_app, tmp_path / "never")
    running = start_worker(file_app)
    wait_until_carried(tmp_path / "never")

    def shows_the_body():
        """The record is moved by the claim, a moment before the body begins: ask again."""
        running.signal(signal.SIGUSR1)
        time.sleep(0.1)  # noqa: TID251 - it prints
        return "in carry" in running.said()

    eventually(shows_the_body, running.said)
    assert is_alive(running.pid)


def test_one_line_at_the_start_says_what_serves_what(app, start_worker):
    running = start_worker(app, "--log-format", "json")

    entry = json.loads(running.said().splitlines()[0])
    (node,) = app.queries.nodes()
    for part in (
        str(node["pid"]),
        node["id"],
        "work (4), slow (2)",
        "worker_app:make_app",
    ):
        assert part in entry["message"]
    assert entry["time"].endswith("Z")


def test_a_wrong_queue_is_said_once_and_ends_the_worker(file_app, tmp_path):
    url = file_app.engine.url.render_as_string(hide_password=False)
    running = Running(url, tmp_path / "log", "--queues", "wrok:3", "--processes", "3")

    assert running.end() == 2
    running.process.stdout.close()
    assert running.said().count("did you mean 'work'?") == 1


@pytest.mark.parametrize(
    ("options", "variable"), [(["--domain", "wrok"], ""), ([], "work wrok")]
)
def test_a_wrong_domain_is_said_once_and_ends_the_worker(
    file_app, tmp_path, monkeypatch, options, variable
):
    monkeypatch.setenv("STATEJOBS_DOMAIN", variable)
    url = file_app.engine.url.render_as_string(hide_password=False)
    running = Running(url, tmp_path / "log", *options, "--processes", "3")

    assert running.end() == 2
    running.process.stdout.close()
    assert running.said().count("no domain 'wrok'; did you mean 'work'?") == 1


def test_processes_serve_the_domains_and_queues_that_they_are_told(
    file_app, start_worker
):
    running = start_worker(file_app, "--domain", "work", "--queues", "work:1,*")
    done = submit_task(file_app)

    eventually(lambda: task(file_app, done).state == "completed", running.said)
    assert "queues work (1), slow (2), domains work, database" in running.said()
    assert [node["queues"] for node in file_app.queries.nodes()] == [
        '{"work":1,"slow":2}'
    ]


def test_a_worker_waits_for_a_database_that_is_not_there_yet(tmp_path):
    later = tmp_path / "later"
    running = Running(f"sqlite:///{later}/app.db", tmp_path / "log")
    running.wait_for("is replaced in")
    later.mkdir()
    app = make_app(f"sqlite:///{later}/app.db")
    app.create_all()

    running.wait_for("worker started")
    running.signal()
    assert running.end() == 0
    running.process.stdout.close()
    app.engine.dispose()

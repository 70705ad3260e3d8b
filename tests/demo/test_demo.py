"""The demo keeps its word, also when its worker dies."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from order_flow.app import make_app
from order_flow.models import Base, Order, Receipt, S
from order_flow.progress import TRANSITIONS
from order_flow.worker_process import WorkerProcess
from sqlalchemy import insert, inspect, select

from statejobs import JobState, utcnow
from tests.support.demo import ROOT, DemoInTerminal
from tests.support.processes import DEADLINE


def test_every_claim_holds(finished, report):
    assert finished.process.returncode == 0
    assert report["holds"]
    assert [check["claim"] for check in report["checks"] if not check["holds"]] == []


def test_every_order_is_completed_or_cancelled(report):
    assert report["orders"] == 40
    assert report["completed"] + report["cancelled"] == 40
    assert report["cancelled"] > 0


def test_receipts_and_charges_equal_completed_orders(report):
    assert report["receipts"] == report["charges"] == report["completed"] > 0


def test_what_failed_for_good_was_retried(report):
    assert report["gave_up"] == report["retried"] > 0


def test_a_lost_answer_is_charged_once_although_the_action_ran_twice(report):
    lost = report["charged_once_despite_a_lost_answer"]

    assert lost
    for order in lost:
        assert order["answers"][-2:] == ["lost", "charged"]
        assert order["attempts"] >= 2
        assert order["charges"] == 1


def test_the_most_eventful_order_tells_its_whole_life(report):
    moves = report["most_eventful"]["moves"]

    assert moves[0]["name"] == "create"
    assert moves[-1]["target"] == "completed"
    assert [m["source"] for m in moves[1:]] == [m["target"] for m in moves[:-1]]


def test_its_own_sqlite_file_is_removed(finished):
    assert list(finished.directory.iterdir()) == []


@pytest.mark.postgres
def test_holds_on_postgresql_in_plain_lines(start_demo, postgres_url):
    demo = start_demo("--plain", "--orders", "40", "--database", postgres_url)

    assert demo.wait() == 0
    assert "order_flow: 40 orders on PostgreSQL" in demo.output
    assert "  NO " not in demo.output
    assert "The most eventful order" in demo.output


def has_stopped_at_work(pid, jobs):
    """Stop a process; let it go on, and return False, when it holds no job."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.1)  # noqa: TID251 - what it has sent may still be done
    if jobs.queries.jobs(states=[JobState.PROCESSING]):
        return True
    os.kill(pid, signal.SIGCONT)
    return False


def test_a_killed_worker_loses_nothing_and_charges_nobody_twice(
    start_demo, database_url
):
    demo = start_demo("--plain", "--orders", "40", "--database", database_url)
    pid = demo.worker_pid()
    with open_shop(database_url) as jobs:
        wait_until(lambda: has_stopped_at_work(pid, jobs))
        os.kill(pid, signal.SIGKILL)

        assert demo.wait() == 0, demo.output
        crashed = [job for job in jobs.queries.jobs(resource="Order") if job.crashes]
        assert crashed
        assert {job.state for job in crashed} <= {
            JobState.COMPLETED,
            JobState.CANCELLED,
        }
        assert read_receipts(jobs) == Counter(read_completed(jobs))
        attempts = [
            a
            for j in jobs.queries.jobs(limit=1000)
            for a in jobs.queries.attempts(j.id)
        ]
    died = sum(attempt["outcome"] == "crashed" for attempt in attempts)
    assert f"{died} died with their worker" in demo.output
    assert "yes  No idempotency key was charged twice." in demo.output
    assert (
        "yes  Every completed order was charged once, and no other order at all."
        in demo.output
    )


def test_a_worker_without_supervisor_is_reported_and_the_printed_command_restarts_it(
    start_demo,
):
    demo = start_demo("--plain", "--orders", "40")
    pid = demo.worker_pid()
    os.kill(parent_of(pid), signal.SIGKILL)

    command = demo.search(r"The worker ended \(killed by SIGKILL\).*\n  (.+)\n")[1]
    restarted = subprocess.Popen(
        f"exec env {command}", shell=True, cwd=ROOT, stderr=subprocess.DEVNULL
    )

    try:
        assert demo.wait() == 0, demo.output
    finally:
        restarted.terminate()
        restarted.wait(DEADLINE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(start_demo, number):
    demo = start_demo("--plain")
    worker = demo.worker_pid()
    supervisor = parent_of(worker)

    demo.process.send_signal(number)

    assert demo.wait() == 130
    wait_until(lambda: not is_alive(worker) and not is_alive(supervisor))
    assert list(demo.directory.iterdir()) == []


def test_orders_of_someone_else_are_left_alone(start_demo, sqlite_url):
    with open_shop(sqlite_url) as jobs:
        jobs.create_all()
        with jobs.session() as session:
            session.add(Order(total=7))
            session.commit()

        demo = start_demo("--database", sqlite_url)

        assert demo.wait() == 2
        assert "table 'orders' of this database is in use" in demo.output
        with jobs.session() as session:
            assert [
                (order.total, order.state) for order in session.scalars(select(Order))
            ] == [(7, S.DRAFT)]


def test_rows_of_another_app_are_left_alone(start_demo, database_url):
    with open_shop(database_url) as jobs:
        jobs.create_all()
        Base.metadata.drop_all(jobs.engine)
        with jobs.engine.begin() as connection:
            connection.execute(insert(TRANSITIONS).values(OF_ANOTHER_APP))

        demo = start_demo("--database", database_url)

        assert demo.wait() == 2
        what, why, fix = demo.output.splitlines()
        assert what == "error: table 'statejobs_transitions' of this database is in use"
        assert why.startswith("  why: an earlier demo or another app has rows there")
        assert fix.startswith("  try: give it an empty database")
        assert inspect(jobs.engine).has_table("orders") is False


def test_the_database_of_the_environment_is_not_the_demos(
    start_demo, sqlite_url, monkeypatch
):
    monkeypatch.setenv("STATEJOBS_DATABASE", sqlite_url)

    demo = start_demo("--json", "--orders", "2")

    assert demo.wait() == 0, demo.output
    assert not Path(sqlite_url.removeprefix("sqlite:///")).exists()


@pytest.mark.parametrize("size", [(24, 80), (15, 60)])
def test_the_screen_shows_the_process_and_then_the_whole_command(tmp_path, size):
    with DemoInTerminal(tmp_path, size) as demo:
        worker = int(demo.search(r"kill -9 (\d+)")[1])
        supervisor = parent_of(worker)
        os.kill(supervisor, signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)

        command = demo.search(
            r"Start another:\s+(\S.* worker --app order_flow.app:make_app)"
        )[1]

        assert "\n" not in command
        assert all(
            f"{name}=" in command for name in ("PYTHONPATH", "STATEJOBS_DATABASE")
        )


def test_a_password_is_left_out_of_the_command_and_that_is_said(tmp_path):
    url = "postgresql://joe:hunter2@db/shop"

    restart = WorkerProcess(url, "http://127.0.0.1:1", log=tmp_path / "log").restart

    hint, command = restart.splitlines()
    assert "put the password of the database where *** stands" in hint
    assert "joe:***@db" in command
    assert "hunter2" not in restart


OF_ANOTHER_APP = {
    "resource": "Parcel",
    "record_id": "1",
    "name": "send",
    "source": None,
    "target": "sent",
    "version": 0,
    "at": utcnow(),
}


@contextlib.contextmanager
def open_shop(url):
    jobs = make_app(url)
    yield jobs
    jobs.engine.dispose()


def read_receipts(jobs):
    with jobs.session() as session:
        return Counter(session.scalars(select(Receipt.order_id)))


def read_completed(jobs):
    with jobs.session() as session:
        return list(session.scalars(select(Order.id).where(Order.state == S.COMPLETED)))


def parent_of(pid):
    found = subprocess.run(
        ["ps", "-o", "ppid=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(found.stdout)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds=DEADLINE):
    pause = threading.Event().wait
    for _ in range(int(seconds * 100)):
        if condition():
            return
        pause(0.01)
    raise AssertionError("it never came true")

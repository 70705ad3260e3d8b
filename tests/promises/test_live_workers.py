"""P4: a live worker is never taken for dead, however busy; a dead one is noticed soon."""

import os
import signal
import statistics
import time

import pytest

from statejobs import JobState
from tests.promises.app import SLOTS, Call, Errand, S, add, count, effects, opened
from tests.support.processes import eventually, kill, worker
from tests.support.size import size

APP = "tests.promises.app:make_app"
ROUNDS = size(1, 20)
pytestmark = pytest.mark.timeout(size(90, 1800))

BUSY = {
    "its loop is blocked and its threads spin": [
        (Call, "sleep"),
        (Errand, "spin"),
        (Errand, "spin"),
    ],
    "its loop spins and its interpreter is held": [(Call, "spin"), (Errand, "hold")],
}


@pytest.mark.parametrize("busy", BUSY)
def test_nobody_takes_a_busy_workers_jobs(database_url, tmp_path, busy):
    with (
        opened(database_url) as app,
        worker(database_url, tmp_path / "log", "--processes", "2", app=APP),
    ):
        eventually(lambda: len(app.queries.nodes()) == 2)
        for done in range(1, ROUNDS + 1):
            for kind, does in BUSY[busy]:
                add(app, kind, does)
            enough = done * len(BUSY[busy])
            eventually(
                lambda: count(app, Errand, S.DONE) + count(app, Call, S.DONE) == enough, seconds=60
            )

        assert {(job.attempt, job.crashes) for job in app.queries.jobs(limit=1000)} == {(1, 0)}
        assert set(effects(app).values()) == {1}
    assert "leases lost" not in (tmp_path / "log").read_text()


def test_the_job_of_a_killed_worker_is_taken_over(database_url, tmp_path):
    seconds = []
    for number in range(ROUNDS):
        with (
            opened(database_url) as app,
            worker(database_url, tmp_path / f"log{number}", "--processes", "2", app=APP),
        ):
            eventually(lambda: len(app.queries.nodes()) >= 2)
            add(app, Errand, "hang")
            (job,) = eventually(lambda: app.queries.jobs(states=[JobState.PROCESSING]))
            pids = {node["id"]: node["pid"] for node in app.queries.nodes()}

            kill(pids[job.owner], signal.SIGKILL)
            killed = time.monotonic()
            eventually(lambda: app.queries.job(job.id).attempt == 2)
            seconds.append(time.monotonic() - killed)

            eventually(lambda: app.queries.job(job.id).state is JobState.COMPLETED)
            assert app.queries.job(job.id).crashes == 1
    print(
        f"killed {ROUNDS}: taken over after {statistics.median(seconds):.2f} s, at most {max(seconds):.2f}"
    )

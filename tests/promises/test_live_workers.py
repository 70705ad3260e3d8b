"""P4: a live worker is never taken for dead, however busy; a dead one is noticed soon."""

import signal
import statistics
import time

import pytest

from statejobs import JobState
from tests.promises.app import opened
from tests.support.processes import eventually, kill, worker
from tests.support.rounds import Call, Errand, S, add, count, effects
from tests.support.size import size

APP = "tests.promises.app:make_app"
ROUNDS = size(1, 20)
pytestmark = pytest.mark.timeout(size(600, 1800))

BUSY = {
    "blocks its loop and spins in threads": [
        (Call, "sleep"),
        (Errand, "spin"),
        (Errand, "spin"),
    ],
    "spins in its loop and holds its interpreter": [(Call, "spin"), (Errand, "hold")],
}


def done(app):
    return count(app, Errand, S.DONE) + count(app, Call, S.DONE)


@pytest.mark.parametrize("busy", BUSY)
def test_nobody_takes_the_jobs_of_a_worker_that(database_url, tmp_path, busy):
    with (
        opened(database_url) as app,
        worker(database_url, tmp_path / "log", "--processes", "2", app=APP),
    ):
        eventually(lambda: len(app.queries.nodes()) == 2)
        for number in range(1, ROUNDS + 1):
            for kind, does in BUSY[busy]:
                add(app, kind, does)
            enough = number * len(BUSY[busy])
            eventually(lambda enough=enough: done(app) == enough)

        assert {(job.attempt, job.crashes) for job in app.queries.jobs(limit=1000)} == {
            (1, 0)
        }
        assert set(effects(app).values()) == {1}
    assert "leases of jobs" not in (tmp_path / "log").read_text()


def test_the_job_of_a_killed_worker_is_taken_over(database_url, tmp_path):
    with opened(database_url) as app:
        seconds = [
            kill_one(app, database_url, tmp_path / f"log{n}") for n in range(ROUNDS)
        ]

        assert {(job.attempt, job.crashes) for job in app.queries.jobs(limit=1000)} == {
            (2, 1)
        }
    middle, worst = statistics.median(seconds), max(seconds)
    print(f"{ROUNDS} killed; taken over after {middle:.2f} s, at most {worst:.2f} s")  # noqa: T201


def kill_one(app, url, log):
    """Kill the worker under a job; return after how many seconds another one has the job."""
    with worker(url, log, "--processes", "2", app=APP):
        eventually(lambda: len(app.queries.nodes()) >= 2)
        add(app, Errand, "hang")
        (job,) = eventually(lambda: app.queries.jobs(states=[JobState.PROCESSING]))
        pids = {node["id"]: node["pid"] for node in app.queries.nodes()}

        kill(pids[job.owner], signal.SIGKILL)
        killed = time.monotonic()
        eventually(lambda: app.queries.job(job.id).attempt == 2)
        seconds = time.monotonic() - killed

        eventually(lambda: app.queries.job(job.id).state is JobState.COMPLETED)
        return seconds

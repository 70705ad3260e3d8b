"""P5: a job that kills its worker is quarantined, and its neighbours complete.

The supervisor waits longer after each death, so the run lasts as long as its pauses.
"""

import random
import re

import pytest

from statejobs import JobState
from tests.promises.app import opened
from tests.support.processes import DEADLINE, eventually, worker
from tests.support.rounds import Call, Errand, S, Visit, add, count, effects
from tests.support.size import size

APP = "tests.promises.app:make_app"
NEIGHBOURS = size(100, 1000)
pytestmark = pytest.mark.timeout(size(600, 900))

KILLERS = ["segfault", "exit", "killed"]


def mix(app, seed, *poison):
    """Enqueue the neighbours with *poison* among them; return the ids of the poison."""
    deeds = ["nothing"] * NEIGHBOURS + list(poison)
    random.Random(seed).shuffle(deeds)
    ids = add(app, Errand, *deeds)
    return [key for key, does in zip(ids, deeds, strict=True) if does != "nothing"]


def test_what_kills_its_worker_is_given_up_and_the_others_complete(
    database_url, seed, tmp_path
):
    killers = size([KILLERS[seed % len(KILLERS)]], KILLERS)
    with opened(database_url) as app:
        poison = mix(app, seed, *killers)

        with worker(database_url, tmp_path / "log", "--processes", "2", app=APP):
            eventually(
                lambda: (
                    count(app, Errand, S.DONE, S.FAILED) == NEIGHBOURS + len(killers)
                ),
                seconds=size(DEADLINE, 600),
            )

        assert count(app, Errand, S.DONE) == NEIGHBOURS
        ended = {int(job.record_id): job for job in app.queries.jobs(limit=10_000)}
        for key in poison:
            assert (ended[key].state, ended[key].crashes) == (JobState.DISCARDED, 3)
        neighbours = [job for key, job in ended.items() if key not in poison]
        assert {job.state for job in neighbours} == {JobState.COMPLETED}
        assert max(job.crashes for job in neighbours) <= 2
        found = effects(app)
        assert set(found.values()) == {1}
        assert len(found) == NEIGHBOURS
    deaths = re.findall(
        r"ended by itself .* is replaced in ([\d.]+) s", (tmp_path / "log").read_text()
    )
    assert 3 <= len(deaths) <= 3 * len(killers)
    assert min(map(float, deaths)) >= 0.5


def test_a_copy_that_a_job_forked_harms_nobody(database_url, seed, tmp_path):
    with opened(database_url) as app:
        mix(app, seed, "fork", "fork and return")

        with worker(database_url, tmp_path / "log", app=APP):
            eventually(lambda: count(app, Errand, S.DONE, S.FAILED) == NEIGHBOURS + 2)

        found = effects(app)
        assert set(found.values()) == {1}
        assert len(found) == NEIGHBOURS + 2
        assert {(job.state, job.attempt) for job in app.queries.jobs(limit=10_000)} == {
            (JobState.COMPLETED, 1)
        }


def test_what_blocks_its_loop_is_given_up_and_the_others_complete(
    database_url, tmp_path
):
    with opened(database_url) as app:
        add(app, Visit, "block")
        add(app, Call, *["nothing"] * 5, "pause", "pause")

        with worker(database_url, tmp_path / "log", app=APP):
            eventually(lambda: count(app, Visit, S.FAILED) == 1)
            eventually(lambda: count(app, Call, S.DONE) == 7)

        (blocking,) = app.queries.jobs(resource="Visit")
        others = app.queries.jobs(resource="Call")
        assert {job.state for job in others} == {JobState.COMPLETED}
        assert set(effects(app).values()) == {1}
        if app.engine.dialect.name == "postgresql":
            # On SQLite one that had begun to write holds the lock of the file until its process
            # ends, so that nothing can be recorded: a crash.
            errors = [row["error_type"] for row in app.queries.attempts(blocking.id)]
            assert errors == ["TimeoutError", "TimeoutError"]
            assert {(job.attempt, job.crashes) for job in others} == {(1, 0)}
    assert "cannot be stopped: it was abandoned" in (tmp_path / "log").read_text()


def test_who_was_writing_when_another_blocked_the_loop_keeps_its_attempt(
    postgres_url, tmp_path
):
    with opened(postgres_url) as app:
        add(app, Call, *["write and wait"] * 3)
        add(app, Visit, "block")

        with worker(postgres_url, tmp_path / "log", app=APP):
            eventually(lambda: count(app, Visit, S.FAILED) == 1)
            eventually(lambda: count(app, Call, S.DONE) == 3)

        others = app.queries.jobs(resource="Call")
        assert {(job.attempt, job.crashes) for job in others} == {(1, 0)}
        assert {effects(app)[f"call {record}"] for record in (1, 2, 3)} == {1}

"""P16: a deploy burns no attempt. P17: old and new code live together."""

import random
import signal
import time
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from statejobs import Domain, JobContext, JobState, StateJobs, WorkerSettings, task
from statejobs.store.tables import attempts, jobs
from tests.promises.app import opened
from tests.support.processes import DEADLINE, eventually, worker
from tests.support.rounds import Errand, S, add, count, effects
from tests.support.size import size

APP = "tests.promises.app:make_app"
STORMS, JOBS = size((2, 120), (60, 300))
TASKS = size(300, 5000)
pytestmark = pytest.mark.timeout(size(600, 1800))


def test_a_storm_of_stops_burns_no_attempt(database_url, seed, tmp_path):
    rng = random.Random(seed)
    claimed_after = []
    with opened(database_url) as app:
        for storm in range(STORMS):
            add(app, Errand, *["work"] * JOBS)
            enough = count(app, Errand, S.DONE) + rng.randrange(1, JOBS // 3)
            with worker(
                database_url, tmp_path / f"log{storm}", "--processes", "2", app=APP
            ) as run:
                eventually(lambda enough=enough: count(app, Errand, S.DONE) >= enough)
                run.send_signal(signal.SIGTERM)
                at = app.sources.clock.now()
                if rng.random() < 0.3:
                    time.sleep(rng.random() / 10)  # noqa: TID251
                    run.send_signal(signal.SIGTERM)
                assert run.wait(DEADLINE) == 0
            with app.engine.connect() as connection:
                last = connection.scalar(select(func.max(jobs.c.started_at)))
            claimed_after.append((last - at).total_seconds())
            assert count(app, Errand, S.RUNNING) == 0
        with worker(database_url, tmp_path / "log", app=APP):
            eventually(
                lambda: count(app, Errand, S.DONE) == JOBS * STORMS,
                seconds=size(DEADLINE, 600),
            )

        with app.engine.connect() as connection:
            assert connection.execute(select(attempts)).all() == []
            rows = connection.execute(
                select(jobs.c.state, jobs.c.attempt, jobs.c.crashes)
            ).all()
        assert set(map(tuple, rows)) == {(JobState.COMPLETED, 1, 0)}
        assert set(effects(app).values()) == {1}
    latest = max(claimed_after)
    print(f"{STORMS} stops; last claim {latest:+.3f} s after the signal")  # noqa: T201


# Two versions ------------------------------------------------------------------------------------

ran = []


def say(version, name):
    def body(ctx: JobContext, number: int) -> None:
        ran.append((version, name, number))

    return body


def old_version():
    return [
        task("shop.count")(say("old", "count")),
        task("shop.post")(say("old", "sent")),
    ]


def new_version():
    known = [
        task("shop.count")(say("new", "count")),
        task("shop.send", aliases=["shop.post"])(say("new", "sent")),
    ]
    added = [
        task(f"shop.{name}")(say("new", name)) for name in ("gift", "wrap", "tell")
    ]
    return [*known, *added]


def version(url, make):
    tasks = make()
    settings = WorkerSettings(poll=timedelta(seconds=0.1))
    return StateJobs(
        url, domains=[Domain("shop", tasks=tasks)], settings=settings
    ), tasks


def test_what_the_old_version_does_not_know_waits_for_the_new(database_url, seed):
    rng = random.Random(seed)
    ran.clear()
    (old, old_tasks), (new, new_tasks) = (
        version(database_url, old_version),
        version(database_url, new_version),
    )
    old.create_all()
    numbers = range(TASKS)
    with old.running():
        with old.session() as session:
            for number in numbers:
                rng.choice([*old_tasks, *new_tasks]).enqueue(session, number)
            session.commit()
        eventually(lambda: ran)
        with new.running():
            eventually(lambda: len(ran) >= TASKS, seconds=size(DEADLINE, 300))
            eventually(lambda: set(new.queries.counts()["default"]) == {"completed"})

    found = {
        (job.state, job.attempt, job.crashes)
        for job in new.queries.jobs(limit=2 * TASKS)
    }
    assert found == {(JobState.COMPLETED, 1, 0)}
    assert sorted(number for _, _, number in ran) == list(numbers)
    assert {name for by, name, _ in ran if by == "old"} <= {"count", "sent"}
    for app in (old, new):
        app.engine.dispose()

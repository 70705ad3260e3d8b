"""Counts of jobs stay cheap beside any number that ended, and say where they stop."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from statejobs import JobState
from statejobs.store import queries
from statejobs.store.queries import AtLeast
from statejobs.store.tables import jobs
from tests.support.parcels import post_office

THEN = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def app(database_url):
    with post_office(database_url) as opened:
        yield opened


def put(app, number, state, queue="default", *, priority=0, minutes=0):
    at = THEN + timedelta(minutes=minutes)
    row = {
        "key": "k",
        "queue": queue,
        "priority": priority,
        "state": state,
        "run_at": at,
        "args": "{}",
        "idempotency_key": "i",
        "tags": "[]",
        "enqueued_at": at,
        "max_attempts": 3,
        "finished_at": at,
    }
    with app.engine.begin() as connection:
        connection.execute(insert(jobs), [row] * number)


def test_every_state_of_every_queue_is_counted(app):
    for number, state in enumerate(JobState, start=1):
        put(app, number, state)
        put(app, 1, state, "other")

    numbers = {state.value: number for number, state in enumerate(JobState, start=1)}
    assert app.queries.counts() == {
        "default": numbers,
        "other": dict.fromkeys(JobState, 1),
    }
    assert not any(
        isinstance(n, AtLeast) for n in app.queries.counts()["default"].values()
    )


def test_many_that_ended_are_counted_as_at_least(app, monkeypatch):
    monkeypatch.setattr(queries, "MOST_COUNTED", 10)
    put(app, 3, JobState.COMPLETED, "old")
    put(app, 2, JobState.COMPLETED, "other", minutes=1)
    put(app, 8, JobState.COMPLETED, minutes=2)
    put(app, 12, JobState.QUEUED)
    put(app, 4, JobState.DISCARDED, "old")

    counts = app.queries.counts()

    shown = {
        queue: {s: str(n) for s, n in states.items()}
        for queue, states in counts.items()
    }
    assert shown == {
        "default": {"queued": "12", "completed": "8+"},
        "other": {"completed": "2+"},
        "old": {"discarded": "4", "completed": "0+"},
    }


def test_the_oldest_queued_job_of_each_queue_is_found_behind_any_priority(app):
    put(app, 2, JobState.QUEUED, "a", priority=0, minutes=5)
    put(app, 2, JobState.QUEUED, "a", priority=9, minutes=2)
    put(app, 2, JobState.QUEUED, "b", priority=3, minutes=7)
    put(app, 2, JobState.FAILED, "c")

    found = app.queries.oldest_queued()

    assert found == {"a": THEN + timedelta(minutes=2), "b": THEN + timedelta(minutes=7)}

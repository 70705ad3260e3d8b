"""Code in the database may raise for one row, for good, what passes when the server says it."""

import time
from datetime import timedelta

import pytest

from statejobs import JobState
from statejobs.runner.port import Ending
from tests.support import forms
from tests.support.forms import Chunked, office, write_on_board
from tests.support.hostile import allow_updates, refuse_updates
from tests.support.parcels import (
    BACKOFF,
    Parcel,
    attempts_of,
    enqueue,
    job_of,
    script,
    send,
    state_of,
)
from tests.support.processes import eventually

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.parametrize("database_url", ["postgres"], indirect=True),
]
PASSES = ("40001", "55P03", "57014")
"""A conflict, a lock that is not given, a statement that takes too long."""
REFUSED = "statejobs.errors.RowRefusedError"


def refuse_moves_to(app, state, key, sqlstate):
    when = f"NEW.id = {key} AND NEW.state = '{state}'"
    refuse_updates(app, "parcels", when, name=f"no_{state}", sqlstate=sqlstate)


def decline(_parcel, _ctx):
    raise ValueError("card declined")


def run_one(app):
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)
    claim.is_kept = True  # as a worker that renews its lease
    return runner.run(claim)


@pytest.mark.parametrize("sqlstate", PASSES)
def test_a_success_whose_row_is_refused_so_fails_its_attempt(app, sqlstate):
    (key,) = send(app)
    refuse_moves_to(app, "sent", key, sqlstate)

    run_one(app)

    assert job_of(app, Parcel, key).state is JobState.FAILED
    assert state_of(app, Parcel, key) == "packed"
    assert attempts_of(app, Parcel, key) == [(1, "failed", REFUSED)]
    row = app.queries.attempts(job_of(app, Parcel, key).id)[0]
    assert row["message"].startswith(
        "the auditor says no (raised by code in the database, 10"
    )


@pytest.mark.parametrize("sqlstate", PASSES)
def test_a_success_that_stands_in_line_for_its_lock_is_not_tried_for_ever(
    app, sqlstate
):
    (key,) = send(app)
    refuse_moves_to(app, "sent", key, sqlstate)
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)
    claim.is_kept = True
    (success,) = runner.attempts.run([claim])
    assert isinstance(success, Ending)

    ended = runner.finisher.try_finish(success, patience=timedelta(seconds=0.25))

    assert ended is not None
    assert ended.state is JobState.FAILED


@pytest.mark.parametrize("sqlstate", PASSES)
def test_a_failure_whose_record_is_refused_so_is_put_aside_and_comes_back(
    app, clock, sqlstate
):
    (key,) = send(app)
    refuse_moves_to(app, "packed", key, sqlstate)
    script.send = decline

    run_one(app)

    job = job_of(app, Parcel, key)
    assert (job.state, job.owner) == (JobState.PROCESSING, None)
    assert "the auditor says no" in job.reason
    assert attempts_of(app, Parcel, key) == [(1, "failed", "ValueError")]
    allow_updates(app, "parcels", name="no_packed")
    clock.advance(BACKOFF * 2)
    assert app.runner().rescue() == 1
    assert state_of(app, Parcel, key) == "packed"


def test_as_many_such_rows_as_slots_stop_no_queue_and_no_stop(app):
    bad = send(app, 10)
    ids = ", ".join(map(str, bad))
    refuse_updates(
        app, "parcels", f"NEW.id IN ({ids}) AND NEW.state = 'packed'", sqlstate="40001"
    )
    script.send = lambda parcel, ctx: decline(parcel, ctx) if parcel.id in bad else None

    with app.running():
        (good,) = send(app)
        eventually(lambda: state_of(app, Parcel, good) == "sent")
        eventually(lambda: all(job_of(app, Parcel, key).owner is None for key in bad))
        began = time.monotonic()
    assert time.monotonic() - began < app.settings.shutdown_grace.total_seconds()


def test_such_a_row_of_a_chunk_costs_its_neighbours_nothing(database_url):
    with office(database_url) as app:
        bad, *good = enqueue(app, Chunked, "act", 3)
        when = f"NEW.id = {bad} AND NEW.state = 'done'"
        refuse_updates(app, "chunkeds", when, sqlstate="40001")
        forms.script.body = lambda _records, session, _ctx: write_on_board(session)

        app.drain()

        assert [job_of(app, Chunked, key).state for key in good] == [
            JobState.COMPLETED
        ] * 2
        # its body runs again, ten times at most
        assert job_of(app, Chunked, bad).returned == 1


# Rescue ------------------------------------------------------------------------------------------


def abandon(app, clock):
    """Let a worker claim a job and vanish; return the key of its record."""
    (key,) = send(app)
    app.runner().claim("default", limit=1)
    clock.advance(hours=1)
    return key


@pytest.mark.parametrize("sqlstate", ["42P01", "42703", "42883", "42501"])
def test_code_that_lacks_a_table_for_one_record_is_that_records_fault(
    app, clock, sqlstate
):
    key = abandon(app, clock)
    refuse_moves_to(app, "packed", key, sqlstate)

    app.runner().rescue()

    job = job_of(app, Parcel, key)
    assert (job.owner, job.crashes) == (None, 1)
    assert "the auditor says no" in job.reason
    for _ in range(2):
        clock.advance(hours=1)
        app.runner().rescue()
    assert job_of(app, Parcel, key).state is JobState.DISCARDED
    assert state_of(app, Parcel, key) == "lost"


@pytest.mark.parametrize("sqlstate", PASSES)
def test_a_rescue_leaves_what_may_pass_ten_rounds_and_no_longer(app, clock, sqlstate):
    key = abandon(app, clock)
    refuse_moves_to(app, "packed", key, sqlstate)
    runner = app.runner()

    for _ in range(9):
        runner.rescue()
    assert job_of(app, Parcel, key).crashes == 0
    runner.rescue()

    assert job_of(app, Parcel, key).crashes == 1
    assert job_of(app, Parcel, key).owner is None

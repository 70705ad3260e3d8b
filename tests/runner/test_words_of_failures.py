"""Attempts, reasons, history and log tell a refusal of the database in its words, and truly."""

import logging
from datetime import timedelta

import pytest
from sqlalchemy import text

from statejobs import JobState, StaleTransitionError, TransitionRefusedError
from statejobs.runner.joblog import log_event
from statejobs.sparing import sparing
from tests.support.hostile import allow_updates, execute, is_postgres, refuse_updates
from tests.support.parcels import (
    BACKOFF,
    Parcel,
    add,
    attempts_of,
    fire,
    job_of,
    load,
    script,
    send,
    steps,
)

NO = "the auditor says no"
OURS = ("WITH moved", "UPDATE", "SELECT", "sqlalche.me", "site-packages")


def decline(_parcel, _ctx):
    raise ValueError("card declined")


@pytest.fixture
def log(app, caplog):
    """What a worker logs."""
    app.telemetry.subscribe(log_event)
    caplog.set_level(logging.INFO, "statejobs")
    with sparing():
        yield caplog


def told_of(app, key):
    """All that is kept of the only attempt of a parcel's job, and of the job itself."""
    job = job_of(app, Parcel, key)
    (row,) = app.queries.attempts(job.id)
    return job, row


def refuse(app, key, state):
    refuse_updates(app, "parcels", f"NEW.id = {key} AND NEW.state = '{state}'")


def test_a_move_that_is_refused_shows_the_words_of_the_database_alone(app, log):
    (key,) = send(app)
    refuse(app, key, "sent")

    app.drain()

    job, row = told_of(app, key)
    (line,) = [r.getMessage() for r in log.records if "attempt 1" in r.getMessage()]
    for said in (row["message"], job.reason, line):
        assert NO in said
        assert not any(part in said for part in OURS)
    assert len(row["message"]) < 500
    assert row["traceback"] is None  # it would show our own insides
    allow_updates(app, "parcels")


@pytest.mark.parametrize("state", ["sending", "sent"])
def test_the_reason_in_history_is_what_the_database_said(app, state):
    (key,) = send(app)
    refuse(app, key, state)

    app.drain()

    reason = job_of(app, Parcel, key).reason
    assert NO in reason
    assert "\n" not in reason
    if state == "sent":
        assert [row["reason"] for row in app.queries.transitions("Parcel", str(key))][
            -1
        ] == reason
    allow_updates(app, "parcels")


def test_a_statement_of_the_action_is_shown_in_its_traceback_only(app):
    (key,) = send(app)
    script.send = lambda parcel, ctx: ctx.session.execute(
        text("SELECT thing FROM nowhere")
    )

    app.drain()

    _, row = told_of(app, key)
    assert "nowhere" in row["message"]
    assert "[SQL:" not in row["message"]
    assert "[SQL: SELECT thing FROM nowhere]" in row["traceback"]
    assert "in <lambda>" in row["traceback"]


def test_a_refused_claim_says_that_the_action_was_not_called(app, log):
    (key,) = send(app)
    refuse(app, key, "sending")

    app.drain()

    job, row = told_of(app, key)
    what = "its record could not be moved to 'sending'; the action was not called: "
    (line,) = [r.getMessage() for r in log.records if "attempt 1" in r.getMessage()]
    assert row["message"].startswith(what)
    assert job.reason.startswith(what)
    assert what in line
    assert row["traceback"] is None
    assert [name for name, *_ in steps(app, Parcel, key)] == ["create"]
    allow_updates(app, "parcels")


def test_a_record_that_is_put_aside_is_not_said_to_run_again_or_to_have_crashed(
    app, clock, log
):
    (key,) = send(app)
    refuse(app, key, "packed")
    script.send = decline

    app.drain()
    clock.advance(BACKOFF + timedelta(seconds=1))
    app.runner().rescue()

    job = job_of(app, Parcel, key)
    said = [record.getMessage() for record in log.records]
    assert job.state is JobState.PROCESSING
    assert any(
        f"its record cannot be moved back: {NO}; that move is tried again" in line
        for line in said
    )
    assert any("its record still cannot be moved back: " + NO in line for line in said)
    assert not any("its worker is gone" in line for line in said)
    assert attempts_of(app, Parcel, key) == [(1, "failed", "ValueError")]
    allow_updates(app, "parcels")


def test_a_retry_of_a_stuck_record_is_refused_under_the_name_that_was_typed(app, clock):
    (key,) = send(app)
    refuse_updates(
        app, "parcels", f"NEW.id = {key} AND NEW.state IN ('packed', 'lost')"
    )
    script.send = decline
    for _ in range(4):
        app.drain()
        app.runner().rescue()
        clock.advance(timedelta(hours=1))
    job = job_of(app, Parcel, key)
    assert job.state is JobState.DISCARDED

    with pytest.raises(Exception, match=r"retry") as refused:
        app.retry_job(job.id)

    assert "rescue" not in str(refused.value)
    assert NO in str(refused.value)
    allow_updates(app, "parcels")


def test_a_refusal_calls_an_action_as_people_do(app):
    with app.session() as session:
        parcel = Parcel(id=7)
        session.add(parcel)
        parcel.drop()
        with pytest.raises(TransitionRefusedError) as refused:
            parcel.send_off(None)

    assert "'send_off' starts from" in str(refused.value)
    assert "send_off." not in str(refused.value)


def test_an_action_that_came_too_late_is_called_as_people_do(app):
    key = add(app, Parcel())
    parcel = load(app, Parcel, key)
    fire(app, Parcel, key, "drop")
    with app.session() as session:
        session.add(parcel)
        parcel.send_off(None)
        with pytest.raises(StaleTransitionError) as late:
            session.flush()

    assert "'send_off' expected 'packed'" in str(late.value)


def test_a_check_of_the_users_is_told_with_its_name(app):
    (key,) = send(app)
    if not is_postgres(app):
        pytest.skip("SQLite adds no check to a table that is there")
    execute(app, "ALTER TABLE parcels ADD CONSTRAINT few_stamps CHECK (stamps < 5)")
    script.send = lambda parcel, ctx: setattr(parcel, "stamps", 9)

    app.drain()

    job, row = told_of(app, key)
    assert job.reason == (
        "(psycopg.errors.CheckViolation) new row for relation "
        '"parcels" violates check constraint "few_stamps"'
    )
    assert row["message"] == job.reason

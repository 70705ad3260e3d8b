"""A running job that a person asked to stop does not go on, however its attempt ends."""

from datetime import timedelta

import pytest

from statejobs import Cancel, JobState, Snooze, acting_as
from tests.support.parcels import (
    LEASE,
    Parcel,
    attempts_of,
    job_of,
    script,
    send,
    state_of,
)

CANCELLED = ("cancelled", "ordered twice", "lost")


def claim_and_cancel(app):
    """A claimed job that a person wants to stop; its worker has not heard of it."""
    (key,) = send(app)
    (claim,) = app.runner().claim("default", limit=1)
    assert app.cancel_job(claim.job.id, reason="ordered twice") is JobState.PROCESSING
    return key, claim


def end_of(app, key):
    job = job_of(app, Parcel, key)
    return job.state.value, job.reason, state_of(app, Parcel, key)


@pytest.mark.parametrize(
    "error", [ValueError("no"), Snooze(minutes=1)], ids=["fail", "snooze"]
)
def test_whatever_the_action_raises_the_cancel_holds(app, error):
    def stop(_parcel, _ctx):
        raise error

    script.send = stop
    key, claim = claim_and_cancel(app)

    ended = app.runner().run(claim)

    assert ended.outcome == "cancel"
    assert end_of(app, key) == CANCELLED
    assert attempts_of(app, Parcel, key) == [(1, "cancelled", None)]


def test_a_release_at_shutdown_does_not_forget_the_cancel(app):
    key, claim = claim_and_cancel(app)

    app.runner().finisher.release(claim)

    assert end_of(app, key) == CANCELLED


def test_a_rescue_does_not_forget_the_cancel(app, clock):
    key, _ = claim_and_cancel(app)
    clock.advance(LEASE + timedelta(seconds=1))

    assert app.runner().rescue() == 1

    assert end_of(app, key) == CANCELLED


def test_an_action_that_returns_nevertheless_has_completed(app):
    key, claim = claim_and_cancel(app)

    app.runner().run(claim)

    assert end_of(app, key) == ("completed", None, "sent")


def test_a_waiting_job_keeps_who_asked_as_a_running_one_does(app):
    with acting_as("customer:1"):
        (key,) = send(app)

    with acting_as("user:7"):
        app.cancel_job(job_of(app, Parcel, key).id, reason="no need")

    assert end_of(app, key) == ("cancelled", "no need (asked by user:7)", "lost")
    assert job_of(app, Parcel, key).actor == "customer:1"
    last = app.queries.transitions("Parcel", str(key))[-1]
    assert (last["reason"], last["actor"], last["attempt"]) == (
        "no need",
        "user:7",
        None,
    )


def test_a_waiting_job_that_nobody_named_cancels_keeps_the_reason_as_it_is(app):
    (key,) = send(app)

    app.cancel_job(job_of(app, Parcel, key).id, reason="no need")

    assert end_of(app, key) == ("cancelled", "no need", "lost")


def test_what_an_action_cancels_with_is_the_reason_as_it_is(app):
    def stop(_parcel, _ctx):
        raise Cancel("no such street")

    script.send = stop
    with acting_as("customer:1"):
        (key,) = send(app)

    app.drain()

    assert end_of(app, key) == ("cancelled", "no such street", "lost")

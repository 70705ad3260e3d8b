"""A job may ask to run later as often as `max_snoozes` says, and no oftener."""

from datetime import timedelta

import pytest

from statejobs import JobOutcome, JobState, Snooze
from tests.support import parcels
from tests.support.errands import ask, household, job, reset, script
from tests.support.hostile import allow_updates, execute, refuse_updates
from tests.support.parcels import (
    Letter,
    Parcel,
    attempts_of,
    enqueue,
    fire,
    job_of,
    send,
    state_of,
)

DAY = timedelta(days=1)


def snooze(*_args):
    raise Snooze(DAY, reason="closed")


def snooze_again(app, clock):
    clock.advance(DAY)
    app.drain()


def say_how_often(app, snoozes):
    execute(app, f"UPDATE statejobs_jobs SET snoozes = {snoozes}")


def test_each_snooze_counts(app, clock):
    (key,) = send(app)
    parcels.script.send = snooze

    app.drain()
    snooze_again(app, clock)

    waits = job_of(app, Parcel, key)
    assert (waits.snoozes, waits.attempt, waits.outcome) == (2, 0, None)


def test_one_more_than_a_thousand_discards_and_spends_no_attempt(app, clock):
    told = []
    (key,) = send(app)
    say_how_often(app, 999)
    parcels.script.send = snooze
    parcels.script.tell = lambda _parcel, _session, reason: told.append(reason)

    app.drain()
    assert job_of(app, Parcel, key).state is JobState.SCHEDULED
    snooze_again(app, clock)

    ended = job_of(app, Parcel, key)
    assert (ended.state, ended.outcome) == (JobState.DISCARDED, JobOutcome.FAILED)
    assert (ended.snoozes, ended.attempt) == (1000, 0)
    assert (ended.reason, told) == ("snoozed 1000 times", ["snoozed 1000 times"])
    assert state_of(app, Parcel, key) == "lost"
    assert attempts_of(app, Parcel, key) == []


def test_a_retry_by_a_person_begins_to_count_anew(app, clock):
    (key,) = send(app)
    say_how_often(app, 1000)
    parcels.script.send = snooze
    app.drain()

    fire(app, Parcel, key, "find")
    app.drain()

    waits = job_of(app, Parcel, key)
    assert (waits.state, waits.snoozes) == (JobState.SCHEDULED, 1)


def test_a_retry_of_an_ended_job_whose_record_rests_begins_anew(app):
    (key,) = enqueue(app, Letter, "put_on_scale")
    say_how_often(app, 1000)
    parcels.script.weigh = snooze
    app.drain()
    assert job_of(app, Letter, key).state is JobState.DISCARDED

    app.retry_job(job_of(app, Letter, key).id)

    assert job_of(app, Letter, key).snoozes == 0


def test_ending_the_wait_by_hand_takes_back_no_snooze(app):
    (key,) = send(app)
    parcels.script.send = snooze
    app.drain()

    app.retry_job(job_of(app, Parcel, key).id)

    assert job_of(app, Parcel, key).snoozes == 1


def test_asking_anew_begins_to_count_anew(app):
    (key,) = enqueue(app, Letter, "put_on_scale")
    parcels.script.weigh = snooze
    app.drain()

    with app.session() as session:
        Letter.put_on_scale.enqueue(session, session.get_one(Letter, key))
        session.commit()

    assert job_of(app, Letter, key).snoozes == 0


def test_a_job_that_runs_again_begins_to_count_anew(app):
    def act(letter, *_rest):
        with app.session() as session:
            Letter.put_on_scale.enqueue(session, session.get_one(Letter, letter.id))
            session.commit()
        raise Snooze(DAY)

    (key,) = enqueue(app, Letter, "put_on_scale")
    say_how_often(app, 5)
    parcels.script.weigh = act

    app.step()

    assert job_of(app, Letter, key).snoozes == 0


def test_a_failure_between_takes_back_no_snooze(app, clock):
    (key,) = send(app)
    parcels.script.send = snooze
    app.drain()
    parcels.script.send = lambda *_: 1 / 0
    clock.advance(DAY)

    app.drain()

    assert job_of(app, Parcel, key).snoozes == 1


def test_a_snooze_whose_record_cannot_go_back_counts_once_it_can(app, clock):
    (key,) = send(app)
    refuse_updates(app, "parcels", f"OLD.id = {key} AND OLD.state = 'sending'")
    parcels.script.send = snooze
    app.drain()
    assert job_of(app, Parcel, key).snoozes == 0

    allow_updates(app, "parcels")
    clock.advance(DAY * 2)
    app.runner().rescue()
    app.drain()

    waits = job_of(app, Parcel, key)
    assert (waits.state, waits.snoozes) == (JobState.SCHEDULED, 1)


def test_a_task_snoozes_no_oftener_than_it_may(database_url, clock):
    with household(database_url, clock=clock) as app:
        script.errand = snooze
        job_id = ask(app)
        say_how_often(app, 1000)

        app.drain()

        ended = job(app, job_id)
        assert (ended.outcome, ended.reason) == (
            JobOutcome.FAILED,
            "snoozed 1000 times",
        )


@pytest.fixture(autouse=True)
def _forget_errands():
    yield
    reset()

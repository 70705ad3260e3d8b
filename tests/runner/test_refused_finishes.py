"""An attempt whose record the database does not let go ends at once, and says what it met."""

import sqlite3
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from statejobs import Cancel, JobState, Snooze
from statejobs.events import JobEnded
from statejobs.runner.port import Ending, Phase
from statejobs.values.outcome import Complete
from tests.support import forms
from tests.support.forms import FORMS, S, office
from tests.support.hostile import allow_updates, execute, refuse_updates
from tests.support.parcels import (
    BACKOFF,
    Parcel,
    attempts_of,
    job_of,
    post_office,
    script,
    send,
    state_of,
    steps,
)

NO = "the auditor says no"


def decline(_parcel, _ctx):
    raise ValueError("card declined")


def refuse_moves_to(app, state, key):
    refuse_updates(app, "parcels", f"NEW.id = {key} AND NEW.state = '{state}'")


def run_one(app):
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)
    return runner.run(claim)


def attempt_of(app, key):
    """The only attempt of a parcel's job that did not complete."""
    (row,) = app.queries.attempts(job_of(app, Parcel, key).id)
    return row


def wait_and_rescue(app, clock):
    clock.advance(BACKOFF + timedelta(seconds=1))
    return app.runner().rescue()


def test_an_action_that_raised_is_told_at_once_though_its_record_cannot_go_back(
    app, clock
):
    (key,) = send(app)
    refuse_moves_to(app, "packed", key)
    script.send = decline

    ended = run_one(app)

    job, row = job_of(app, Parcel, key), attempt_of(app, key)
    assert (job.state, job.owner, job.crashes) == (JobState.PROCESSING, None, 0)
    assert job.lease_until == clock.now() + BACKOFF
    assert state_of(app, Parcel, key) == "sending"
    assert (row["attempt"], row["outcome"], row["error_type"]) == (
        1,
        "failed",
        "ValueError",
    )
    assert row["message"] == f"card declined; and its record cannot be moved back: {NO}"
    assert "in decline" in row["traceback"]
    assert (ended.outcome, ended.state, ended.run_at) == (
        "fail",
        job.state,
        job.lease_until,
    )
    assert NO in ended.reason


def test_the_rescue_brings_it_back_without_a_crash_once_its_record_can_be_moved(
    app, clock
):
    (key,) = send(app)
    refuse_moves_to(app, "packed", key)
    script.send = decline
    run_one(app)
    allow_updates(app, "parcels")
    script.send = lambda _parcel, _ctx: None

    assert app.runner().rescue() == 0  # not before its backoff is over
    assert wait_and_rescue(app, clock) == 1

    job = job_of(app, Parcel, key)
    assert (job.state, job.attempt, job.crashes) == (JobState.QUEUED, 1, 0)
    assert app.drain().counts == {"complete": 1}
    assert attempts_of(app, Parcel, key) == [(1, "failed", "ValueError")]


def test_a_place_that_was_taken_while_the_action_ran_is_waited_for(app, clock):
    (key,) = send(app)
    where = "WHERE state = 'packed'"
    execute(app, "UPDATE parcels SET note = 'ada'")

    def order_again(_parcel, _ctx):
        execute(
            app,
            f"CREATE UNIQUE INDEX one_packed ON parcels (note) {where}",
            "INSERT INTO parcels (stamps, note, state, state_version)"
            " VALUES (0, 'ada', 'packed', 0)",
        )
        raise ValueError("card declined")

    script.send = order_again
    run_one(app)

    assert attempts_of(app, Parcel, key) == [(1, "failed", "ValueError")]
    assert job_of(app, Parcel, key).owner is None
    execute(app, "DELETE FROM parcels WHERE state = 'packed'")
    assert wait_and_rescue(app, clock) == 1
    assert job_of(app, Parcel, key).crashes == 0


def use_up(app, clock):
    """Let a parcel fail for the last time, which may not go to `lost`; return its key."""
    (key,) = send(app)
    refuse_moves_to(app, "lost", key)
    script.send = decline
    for _ in range(3):
        app.drain()
        clock.advance(timedelta(hours=1))
    return key


def test_when_attempts_are_used_up_it_is_given_up_at_once_and_listed_as_stuck(
    app, clock
):
    told = []
    script.tell = lambda parcel, _session, reason: told.append((parcel.id, reason))

    key = use_up(app, clock)

    job = job_of(app, Parcel, key)
    assert (job.state, job.token, job.crashes) == (JobState.DISCARDED, None, 0)
    assert job.reason == f"stuck: its record cannot be moved: {NO}"
    assert state_of(app, Parcel, key) == "sending"
    assert told == [(key, job.reason)]
    assert [stuck.id for stuck in app.stuck_jobs()] == [job.id]
    rows = app.queries.attempts(job.id)
    assert [(row["attempt"], row["outcome"]) for row in rows] == [
        (n, "failed") for n in (1, 2, 3)
    ]
    assert "card declined" in rows[-1]["message"]
    assert NO in rows[-1]["message"]


def test_what_was_given_up_so_goes_on_by_a_retry(app, clock):
    key = use_up(app, clock)
    script.send = lambda _parcel, _ctx: None

    assert app.retry_job(job_of(app, Parcel, key).id) is JobState.QUEUED

    assert app.drain().counts == {"complete": 1}
    assert app.stuck_jobs() == []


def test_a_cancel_is_heeded_once_the_record_can_be_moved(app, clock):
    def cancel(_parcel, _ctx):
        raise Cancel("the shop\0 is closed")

    (key,) = send(app)
    refuse_moves_to(app, "lost", key)
    script.send = cancel

    run_one(app)

    assert job_of(app, Parcel, key).state is JobState.PROCESSING
    assert NO in attempt_of(app, key)["message"]
    allow_updates(app, "parcels")
    assert wait_and_rescue(app, clock) == 1
    job = job_of(app, Parcel, key)
    assert job.state is JobState.CANCELLED
    assert "is closed" in job.reason
    assert steps(app, Parcel, key)[-1] == ("discard", "sending", "lost")


def snooze(_parcel, _ctx):
    raise Snooze(hours=1)


def test_a_snooze_whose_record_cannot_go_back_keeps_its_own_time_and_costs_no_attempt(
    app, clock
):
    (key,) = send(app)
    refuse_moves_to(app, "packed", key)
    script.send = snooze
    due = clock.now() + timedelta(hours=1)

    ended = run_one(app)

    job = job_of(app, Parcel, key)
    assert (job.state, job.owner) == (JobState.PROCESSING, None)
    assert (job.lease_until, ended.run_at) == (due, due)
    assert job.reason == ended.reason == f"its record cannot be moved: {NO}"
    allow_updates(app, "parcels")
    assert wait_and_rescue(app, clock) == 0  # not before its time
    clock.advance(hours=1)
    assert app.runner().rescue() == 1
    job = job_of(app, Parcel, key)
    assert (job.state, job.attempt, job.crashes) == (JobState.QUEUED, 0, 0)
    assert attempts_of(app, Parcel, key) == []


def test_a_snooze_on_the_last_attempt_is_not_given_up_for_a_refusal(app, clock):
    (key,) = send(app)
    script.send = decline
    for _ in range(2):
        app.drain()
        clock.advance(hours=1)
    refuse_moves_to(app, "packed", key)
    script.send = snooze

    app.drain()
    clock.advance(hours=2)
    allow_updates(app, "parcels")
    app.runner().rescue()

    job = job_of(app, Parcel, key)
    assert (job.state, job.attempt, job.crashes) == (JobState.QUEUED, 2, 0)


def test_a_stale_job_whose_record_cannot_go_back_costs_no_attempt(app, clock):
    (key,) = send(app)
    refuse_moves_to(app, "packed", key)
    script.may_send = lambda _parcel: False

    run_one(app)
    allow_updates(app, "parcels")
    assert wait_and_rescue(app, clock) == 1

    job = job_of(app, Parcel, key)
    assert (job.state, job.attempt, attempts_of(app, Parcel, key)) == (
        JobState.QUEUED,
        0,
        [],
    )
    app.drain()
    assert job_of(app, Parcel, key).reason == "stale: The post is closed."


def test_what_the_database_failed_and_does_not_let_go_back_costs_no_attempt(app, clock):
    def undo(_parcel, _ctx):
        error = sqlite3.OperationalError("database is read-only")
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY
        raise OperationalError("UPDATE parcels", {}, error)

    (key,) = send(app)
    refuse_moves_to(app, "packed", key)
    script.send = undo

    run_one(app)
    job = job_of(app, Parcel, key)
    assert (job.state, job.owner) == (JobState.PROCESSING, None)
    allow_updates(app, "parcels")
    assert wait_and_rescue(app, clock) == 1

    job = job_of(app, Parcel, key)
    assert (job.state, job.attempt, attempts_of(app, Parcel, key)) == (
        JobState.QUEUED,
        0,
        [],
    )


def test_a_column_that_is_gone_when_an_action_ends_is_waited_for(app, clock):
    (key,) = send(app)

    def drop_a_column(_parcel, _ctx):
        execute(app, "ALTER TABLE parcels RENAME COLUMN state_changed_at TO moved_at")
        raise ValueError("card declined")

    script.send = drop_a_column
    run_one(app)

    assert job_of(app, Parcel, key).owner is None
    assert "state_changed_at" in attempt_of(app, key)["message"]
    # this code still cannot: it counts no crash
    assert wait_and_rescue(app, clock) == 0
    execute(app, "ALTER TABLE parcels RENAME COLUMN moved_at TO state_changed_at")
    assert wait_and_rescue(app, clock) == 1
    job = job_of(app, Parcel, key)
    assert (job.state, job.attempt, job.crashes) == (JobState.QUEUED, 1, 0)


@pytest.mark.parametrize(
    "kind", [Parcel, forms.Chunked], ids=lambda kind: kind.__name__
)
def test_a_success_that_is_refused_by_itself_fails_its_attempt_at_once(
    database_url, kind
):
    """As `try_finish` meets it, when a batch has left a success to be finished alone."""
    with (
        office(database_url)
        if kind is forms.Chunked
        else post_office(database_url) as app
    ):
        (key,) = fill(app, kind, 1) if kind is forms.Chunked else send(app)
        table, done = kind.__tablename__, "done" if kind is forms.Chunked else "sent"
        runner = app.runner()
        (claim,) = runner.claim("default", limit=1)
        refuse_updates(app, table, f"NEW.state = '{done}'")

        ended = runner.finisher.try_finish(
            Ending(claim, Complete()), patience=timedelta(seconds=1)
        )

        assert (ended.outcome, ended.state) == ("fail", JobState.FAILED)
        (row,) = app.queries.attempts(job_of(app, kind, key).id)
        assert NO in row["message"]
        allow_updates(app, table)


@pytest.mark.postgres
def test_a_success_that_waits_for_a_lock_is_tried_again_by_itself(postgres_url):
    with post_office(postgres_url) as app:
        (key,) = send(app)
        runner = app.runner()
        (claim,) = runner.claim("default", limit=1)
        success, patience = Ending(claim, Complete()), timedelta(seconds=0.1)
        with app.engine.begin() as user:
            user.execute(text(f"SELECT 1 FROM parcels WHERE id = {key} FOR UPDATE"))
            assert runner.finisher.try_finish(success, patience=patience) is None

        assert (
            runner.finisher.try_finish(success, patience=patience).outcome == "complete"
        )
        assert state_of(app, Parcel, key) == "sent"


def test_a_job_that_a_stop_cannot_give_back_waits_for_no_lease(app, clock):
    (key,) = send(app)
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)
    refuse_moves_to(app, "packed", key)

    runner.finisher.release(claim)

    assert job_of(app, Parcel, key).owner is None
    allow_updates(app, "parcels")
    assert wait_and_rescue(app, clock) == 1


def test_its_worker_is_fenced_from_then_on(app):
    (key,) = send(app)
    refuse_moves_to(app, "packed", key)
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)
    held = claim.job.token
    script.send = decline
    runner.run(claim)
    allow_updates(app, "parcels")
    claim.phase = Phase.HELD

    assert runner.finisher.finish(Ending(claim, Complete())).outcome == "late"

    assert job_of(app, Parcel, key).token != held
    assert state_of(app, Parcel, key) == "sending"


def test_a_source_that_nobody_knows_any_more_is_a_refusal_too(app):
    (key,) = send(app)
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)
    claim.subject.source = "renamed"
    script.send = decline

    runner.run(claim)

    assert job_of(app, Parcel, key).owner is None
    assert attempts_of(app, Parcel, key) == [(1, "failed", "ValueError")]
    assert "'renamed' is not" in attempt_of(app, key)["message"]


def test_its_neighbours_run_and_each_end_is_told_once(app):
    bad, *good = send(app, 5)
    refuse_moves_to(app, "packed", bad)
    script.send = lambda parcel, ctx: decline(parcel, ctx) if parcel.id == bad else None
    told = []
    app.telemetry.subscribe(lambda end: told.append(end.outcome), JobEnded)

    app.drain()

    assert {state_of(app, Parcel, key) for key in good} == {"sent"}
    assert sorted(told) == ["complete"] * 4 + ["fail"]


# A success that is refused: that attempt's failure.

WAYS = {"columns": lambda _session: None, "session": forms.write_on_board}


def fill(app, kind, number):
    with app.session() as session:
        records = [kind(n=n) for n in range(number)]
        session.add_all(records)
        session.flush()
        kind.act.enqueue_many(session, records)
        session.commit()
        return [record.id for record in records]


def states(app, kind, keys):
    with app.session() as session:
        return [session.get_one(kind, key).state for key in keys]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FORMS, ids=lambda kind: kind.__name__)
def test_a_refused_success_is_the_failure_of_its_attempt_alone(database_url, kind, way):
    def body(records, session, _ctx):
        WAYS[way](session)
        for record in records:
            record.n += 100

    with office(database_url) as app:
        bad, *good = keys = fill(app, kind, 5)
        table = kind.__tablename__
        refuse_updates(app, table, f"NEW.id = {bad} AND NEW.state = 'done'")
        forms.script.body = body

        app.drain()

        assert states(app, kind, keys) == [S.NEW, *[S.DONE] * len(good)]
        job = job_of(app, kind, bad)
        (row,) = app.queries.attempts(job.id)
        assert (job.state, job.crashes, row["outcome"]) == (
            JobState.FAILED,
            0,
            "failed",
        )
        assert NO in row["message"]
        assert all(
            app.queries.attempts(job_of(app, kind, key).id) == [] for key in good
        )


@pytest.mark.parametrize("kind", FORMS, ids=lambda kind: kind.__name__)
def test_a_place_that_another_took_fails_the_attempt_alone(database_url, kind):
    def body(records, _session, _ctx):
        for record in records:
            record.n = 1000 + max(record.n, 1)  # those of 0 and 1 want the same

    with office(database_url) as app:
        keys = fill(app, kind, 4)
        table = kind.__tablename__
        execute(app, f"CREATE UNIQUE INDEX one_n ON {table} (n) WHERE n >= 1000")
        forms.script.body = body

        app.drain()

        ended = states(app, kind, keys)
        assert sorted(ended[:2]) == [S.DONE, S.NEW]
        assert ended[2:] == [S.DONE] * 2
        (row,) = app.queries.attempts(job_of(app, kind, keys[ended.index(S.NEW)]).id)
        assert (row["outcome"], row["error_type"]) == (
            "failed",
            "sqlalchemy.exc.IntegrityError",
        )


@pytest.mark.parametrize("kind", FORMS, ids=lambda kind: kind.__name__)
def test_a_value_that_only_the_driver_refuses_does_not_cost_its_neighbours(
    database_url, kind
):
    def body(records, _session, _ctx):
        for record in records:
            record.n = 2**70 if record.n == 0 else 7

    with office(database_url) as app:
        bad, *good = fill(app, kind, 4)
        forms.script.body = body

        app.drain()

        assert states(app, kind, good) == [S.DONE] * 3
        assert [
            row["outcome"] for row in app.queries.attempts(job_of(app, kind, bad).id)
        ] == ["failed"]


@pytest.mark.parametrize("kind", FORMS, ids=lambda kind: kind.__name__)
def test_the_error_of_the_action_itself_is_kept_whatever_its_form(database_url, kind):
    def body(records, _session, _ctx):
        if any(record.n == 0 for record in records):
            raise ValueError("card declined")

    with office(database_url) as app:
        bad, *good = keys = fill(app, kind, 4)
        refuse_updates(app, kind.__tablename__, f"NEW.id = {bad} AND NEW.state = 'new'")
        forms.script.body = body

        app.drain()

        assert states(app, kind, keys) == [S.RUN, *[S.DONE] * len(good)]
        job = job_of(app, kind, bad)
        (row,) = app.queries.attempts(job.id)
        assert (job.state, job.owner) == (JobState.PROCESSING, None)
        assert (row["outcome"], row["error_type"]) == ("failed", "ValueError")
        assert "card declined" in row["message"]
        assert NO in row["message"]

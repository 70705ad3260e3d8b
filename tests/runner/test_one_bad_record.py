"""One record that cannot be claimed costs its own job an attempt at most, and no other anything."""

from datetime import timedelta

import pytest
from sqlalchemy import event, text, update

from statejobs.errors import StateJobsError
from statejobs.events import KeyHeld
from statejobs.store.strangers import peek_queues
from statejobs.store.tables import jobs
from statejobs.values.job import JobState
from tests.support.hostile import (
    allow_updates,
    execute,
    is_postgres,
    put_in_state,
    refuse_updates,
)
from tests.support.parcels import (
    BACKOFF,
    Message,
    Parcel,
    attempts_of,
    enqueue,
    fire,
    job_of,
    send,
    state_of,
    steps,
)


@pytest.fixture
def raises_at_load():
    """Ids of parcels whose `load` event raises."""
    ids = set()

    def refuse(parcel, _context):
        if parcel.id in ids:
            raise ValueError(f"cannot decipher parcel {parcel.id}")

    event.listen(Parcel, "load", refuse)
    yield ids
    event.remove(Parcel, "load", refuse)


def states(app, keys):
    """The states of parcels as they are stored, whether they can be loaded or not."""
    with app.engine.connect() as connection:
        found = connection.execute(
            text("SELECT id, CAST(state AS TEXT) FROM parcels")
        ).all()
    by_key = dict(tuple(row) for row in found)
    return [by_key[key] for key in keys]


def claim_all(app, limit=20):
    """Claim from the queue once, and run what was claimed."""
    runner = app.runner()
    claims = runner.claim("default", limit=limit)
    for claim in claims:
        runner.run(claim)
    return runner


def test_one_record_that_the_database_refuses_does_not_stop_its_queue(app):
    bad, *good = keys = send(app, 10)
    refuse_updates(app, "parcels", f"NEW.id = {bad}")

    claim_all(app)

    assert states(app, keys) == ["packed", *["sent"] * len(good)]
    ((attempt, outcome, _),) = attempts_of(app, Parcel, bad)
    assert (attempt, outcome) == (1, "failed")
    allow_updates(app, "parcels")


def test_its_attempt_holds_the_words_of_the_database_and_backs_off(app, clock):
    bad, *_ = send(app, 3)
    refuse_updates(app, "parcels", f"NEW.id = {bad}")

    claim_all(app)

    job = job_of(app, Parcel, bad)
    (attempt,) = app.queries.attempts(job.id)
    assert (job.state, job.attempt, job.run_at) == (
        JobState.FAILED,
        1,
        clock.now() + BACKOFF,
    )
    assert "the auditor says no" in attempt["message"]
    allow_updates(app, "parcels")


@pytest.mark.parametrize("limit", [1, 2, 20])
def test_a_record_that_raises_when_it_is_loaded_does_not_stop_its_queue(
    app, raises_at_load, limit
):
    keys = send(app, 12)
    raises_at_load.add(keys[3])

    for _ in keys:
        claim_all(app, limit)

    assert states(app, keys) == [*["sent"] * 3, "packed", *["sent"] * 8]
    assert attempts_of(app, Parcel, keys[3]) == [(1, "failed", "ValueError")]


def test_many_bad_records_do_not_hide_the_good_ones_behind_them(
    app, raises_at_load, clock
):
    keys = send(app, 60)
    raises_at_load.update(keys[:40])

    runner = app.runner()
    for _ in range(20):
        for claim in runner.claim("default", limit=10):
            runner.run(claim)
        clock.advance(seconds=2)

    assert states(app, keys[40:]) == ["sent"] * 20
    assert {
        attempt for key in keys[:40] for attempt, *_ in attempts_of(app, Parcel, key)
    } == {1}


def test_a_bad_record_whose_attempts_are_used_up_lands_in_failed(
    app, raises_at_load, clock
):
    (bad,) = send(app)
    good = send(app, 3)
    raises_at_load.add(bad)

    for _ in range(3):
        app.drain()
        clock.advance(BACKOFF)
        fire_more = send(app)  # a success shows that the key is well
        good += fire_more
    app.drain()

    raises_at_load.clear()
    job = job_of(app, Parcel, bad)
    assert (job.state, job.attempt) == (JobState.DISCARDED, 3)
    assert job.reason.startswith("failed: ")
    assert job.reason.endswith(f"ValueError: cannot decipher parcel {bad}")
    assert state_of(app, Parcel, bad) == "lost"
    assert steps(app, Parcel, bad)[-1] == ("discard", "packed", "lost")
    fire(app, Parcel, bad, "find")
    app.drain()
    assert state_of(app, Parcel, bad) == "sent"


def test_a_bad_record_that_cannot_be_moved_to_failed_either_is_discarded(app, clock):
    (bad,) = send(app)
    refuse_updates(app, "parcels", f"NEW.id = {bad}")

    for _ in range(3):
        send(app)
        app.drain()
        clock.advance(BACKOFF)

    job = job_of(app, Parcel, bad)
    assert job.state is JobState.DISCARDED
    assert "could not be moved" in job.reason
    assert "the auditor says no" in job.reason
    assert state_of(app, Parcel, bad) == "packed"
    allow_updates(app, "parcels")


def test_a_place_that_is_taken_costs_no_attempt_and_is_asked_for_again_later(
    app, clock
):
    first, second, _ = keys = send(app, 3)
    execute(
        app,
        f"UPDATE parcels SET note = 'alice' WHERE id IN ({first}, {second})",
        "CREATE UNIQUE INDEX one_sending ON parcels (note) WHERE state = 'sending'",
    )
    runner = app.runner()

    claims = runner.claim("default", limit=10)

    assert states(app, keys) == ["sending", "packed", "sending"]
    job = job_of(app, Parcel, second)
    assert (job.state, job.attempt) == (JobState.SCHEDULED, 0)
    assert timedelta(seconds=1) <= job.run_at - clock.now() <= timedelta(seconds=1.25)
    for claim in claims:
        runner.run(claim)
    clock.advance(seconds=2)
    app.drain()
    assert states(app, keys) == ["sent"] * 3
    assert attempts_of(app, Parcel, second) == []


def test_who_waited_long_for_a_taken_place_waits_as_long_again_but_a_minute_at_most(
    app, clock
):
    first, second = send(app, 2)
    execute(
        app,
        f"UPDATE parcels SET note = 'alice' WHERE id IN ({first}, {second})",
        "CREATE UNIQUE INDEX one_sending ON parcels (note) WHERE state = 'sending'",
    )
    clock.advance(minutes=30)

    claims = app.runner().claim("default", limit=10)

    wait = job_of(app, Parcel, second).run_at - clock.now()
    assert timedelta(seconds=60) <= wait <= timedelta(seconds=75)
    for claim in claims:
        app.runner().run(claim)


def test_a_column_that_is_not_migrated_yet_burns_no_attempt(app, clock, mending):
    keys = send(app, 5)
    enqueue(app, Message, "get", 2)
    mend = mending("ALTER TABLE parcels RENAME COLUMN stamps_before TO stamps")
    execute(app, "ALTER TABLE parcels RENAME COLUMN stamps TO stamps_before")
    runner = app.runner()

    claims = runner.claim("default", limit=5)

    assert {claim.job.key for claim in claims} == {"message.fetch"}

    assert runner.claiming.held.all().keys() == {"parcel.send"}
    assert [row.attempt for row in _rows(app, "parcel.send")] == [0] * 5
    mend()
    for claim in claims:
        runner.finisher.release(claim)
    clock.advance(seconds=1.1)
    for claim in runner.claim("default", limit=20):
        if claim.job.key == "parcel.send":
            runner.run(claim)
        else:
            runner.finisher.release(claim)
    assert states(app, keys) == ["sent"] * 5
    assert not runner.claiming.held


def _rows(app, key):
    with app.engine.connect() as connection:
        return connection.execute(jobs.select().where(jobs.c.key == key)).all()


def test_the_same_error_of_every_record_of_a_key_burns_no_attempt(
    app, raises_at_load, clock
):
    keys = send(app, 5)
    raises_at_load.update(keys)
    told = []
    app.telemetry.subscribe(told.append, KeyHeld)
    runner = app.runner()

    waits = []
    for _ in range(8):
        assert runner.claim("default", limit=1) == []
        waits.append(runner.claiming.held.all()["parcel.send"].wait.total_seconds())
        clock.advance(seconds=waits[-1] + 0.1)

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [row.attempt for row in _rows(app, "parcel.send")] == [0] * 5
    assert told[0].key == "parcel.send"
    assert "cannot decipher" in told[0].reason


def test_a_drain_says_which_key_cannot_be_claimed_and_why(app, mending):
    send(app, 2)
    mend = mending("ALTER TABLE parcels RENAME COLUMN stamps_before TO stamps")
    execute(app, "ALTER TABLE parcels RENAME COLUMN stamps TO stamps_before")

    with pytest.raises(
        StateJobsError, match=r"no job of parcel\.send can be claimed.*stamps"
    ):
        app.drain()

    mend()


def test_a_state_that_this_code_does_not_know_waits_for_code_that_does(
    app, clock, mending
):
    new, *old = keys = send(app, 4)
    mend = mending(f"UPDATE parcels SET state = 'packed' WHERE id = {new}")
    put_in_state(app, "parcels", new, "on_hold")
    clock.advance(minutes=1)

    app.drain()

    job = job_of(app, Parcel, new)
    assert (job.state, job.attempt) == (JobState.SCHEDULED, 0)
    assert "'on_hold', which this code does not know" in job.reason
    assert timedelta(seconds=60) <= job.run_at - clock.now() <= timedelta(seconds=75)
    mend()
    assert states(app, keys) == ["packed", *["sent"] * len(old)]


def test_a_job_whose_own_row_cannot_be_read_is_discarded_by_its_id(app, mending):
    bad, *good = keys = send(app, 4)
    mend = mending(
        f"UPDATE statejobs_jobs SET started_at = NULL WHERE record_id = '{bad}'"
    )
    never = "infinity" if is_postgres(app) else "soon"
    execute(
        app,
        f"UPDATE statejobs_jobs SET started_at = '{never}' WHERE record_id = '{bad}'",
    )

    claim_all(app)

    mend()
    assert states(app, keys) == ["packed", *["sent"] * len(good)]
    job = job_of(app, Parcel, bad)
    assert (job.state, job.attempt) == (JobState.DISCARDED, 1)
    assert [attempt["attempt"] for attempt in app.queries.attempts(job.id)] == [1]
    assert "its row cannot be read" in job.reason


@pytest.mark.parametrize("never", ["-infinity", "infinity", "0044-03-15 12:00:00 BC"])
def test_a_due_time_outside_of_all_calendars_stops_no_look(app, never, clock, mending):
    bad, good = send(app, 2, delay=timedelta(seconds=5))
    past = (clock.now() - timedelta(days=1)).isoformat(sep=" ")
    mending(f"UPDATE statejobs_jobs SET run_at = '{past}' WHERE record_id = '{bad}'")
    execute(
        app, f"UPDATE statejobs_jobs SET run_at = '{never}' WHERE record_id = '{bad}'"
    )
    clock.advance(seconds=10)

    app.drain()

    assert state_of(app, Parcel, good) == "sent"
    runner = app.runner()
    peek_queues(app.store, ["default"], runner.work.keys())


@pytest.mark.parametrize("record_id", ["9" * 30, "not a number", "[1,2]"])
def test_a_key_that_no_record_can_have_stops_nobody(app, record_id):
    bad, *_ = keys = send(app, 3)
    with app.engine.begin() as connection:
        connection.execute(
            update(jobs).where(jobs.c.record_id == str(bad)).values(record_id=record_id)
        )

    claim_all(app)

    assert states(app, keys) == ["packed", "sent", "sent"]
    (row,) = [row for row in _rows(app, "parcel.send") if row.record_id == record_id]
    assert row.state in {"cancelled", "failed"}


def test_a_bad_record_costs_few_transactions_and_a_good_batch_none(app, raises_at_load):
    keys = send(app, 40)
    begun = []
    event.listen(app.engine, "commit", lambda _connection: begun.append("commit"))
    event.listen(app.engine, "rollback", lambda _connection: begun.append("rollback"))
    runner = app.runner()

    claims = runner.claim("default", limit=20)
    good = len(begun)
    raises_at_load.add(keys[25])
    claims += runner.claim("default", limit=20)

    assert len(claims) == 39
    assert good <= 2
    assert len(begun) - good <= 40
    for claim in claims:
        runner.run(claim)

"""A worker that is gone gives back every job, whatever one of their records does."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from statejobs import JobState, TransitionRefusedError, acting_as
from tests.support.parcels import (
    BACKOFF,
    LEASE,
    Parcel,
    attempts_of,
    fire,
    job_of,
    script,
    send,
    state_of,
)


def execute(app, *statements):
    with app.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def refuse(app, key, *, why="not today"):
    """Let the database refuse every move of one parcel."""
    if app.engine.dialect.name == "sqlite":
        execute(
            app,
            f"CREATE TRIGGER no BEFORE UPDATE ON parcels WHEN NEW.id = {key} "
            f"BEGIN SELECT RAISE(ABORT, '{why}'); END",
        )
        return
    execute(
        app,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.id = {key} THEN RAISE '{why}'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER no BEFORE UPDATE ON parcels FOR EACH ROW EXECUTE FUNCTION no()",
    )


def allow(app):
    on = " ON parcels" if app.engine.dialect.name == "postgresql" else ""
    execute(app, f"DROP TRIGGER no{on}")


def take_its_place(app):
    """Let another parcel be where those of a dead worker would have to go back to."""
    execute(app, "UPDATE parcels SET note = 'ada'")
    where = "WHERE state = 'packed'"
    execute(app, f"CREATE UNIQUE INDEX one_packed ON parcels (note) {where}")
    execute(
        app,
        "INSERT INTO parcels (stamps, note, state, state_version) VALUES (0, 'ada', 'packed', 0)",
    )


def forget_the_source(app, key):
    execute(
        app,
        f"UPDATE statejobs_jobs SET record_source = 'renamed' WHERE record_id = '{key}'",
    )


def lose_the_source(app, key):
    execute(
        app, f"UPDATE statejobs_jobs SET record_source = NULL WHERE record_id = '{key}'"
    )


REFUSALS = {
    "trigger": (refuse, "not today"),
    "renamed-source": (forget_the_source, "'renamed' is not a state of ParcelState"),
    "no-source": (lose_the_source, "is not known"),
}


def die_with(app, clock, number):
    """Let a worker die with *number* parcels, and its leases end."""
    keys = send(app, number)
    claims = app.runner().claim("default", limit=number)
    assert len(claims) == number
    clock.advance(LEASE + timedelta(seconds=1))
    return keys, claims


@pytest.mark.parametrize("name", REFUSALS)
def test_one_record_that_cannot_be_moved_back_does_not_stop_the_rescue_of_the_others(
    app, clock, name
):
    (bad, *good), _ = die_with(app, clock, 4)
    break_it, words = REFUSALS[name]
    break_it(app, bad)

    assert app.runner().rescue() == 3

    assert [job_of(app, Parcel, key).state for key in good] == [JobState.QUEUED] * 3
    left = job_of(app, Parcel, bad)
    assert (left.state, left.owner, left.crashes) == (JobState.PROCESSING, None, 1)
    assert state_of(app, Parcel, bad) == "sending"
    (row,) = app.queries.attempts(left.id)
    assert (row["attempt"], row["outcome"]) == (1, "crashed")
    assert words in row["message"]
    assert "UPDATE" not in row["message"]


def test_a_place_that_is_taken_is_waited_for_and_costs_one_crash(app, clock):
    (key,), _ = die_with(app, clock, 1)
    take_its_place(app)

    assert app.runner().rescue() == 0
    assert job_of(app, Parcel, key).crashes == 1

    execute(app, "DELETE FROM parcels WHERE state = 'packed'")
    assert app.runner().rescue() == 0  # not before its backoff is over
    clock.advance(BACKOFF + timedelta(seconds=1))
    assert app.runner().rescue() == 1
    job = job_of(app, Parcel, key)
    assert (job.state, job.attempt, job.crashes) == (JobState.QUEUED, 1, 1)
    assert app.drain().counts == {"complete": 1}
    assert attempts_of(app, Parcel, key) == [
        (1, "crashed", "sqlalchemy.exc.IntegrityError")
    ]


def test_a_worker_that_was_only_slow_is_fenced_from_a_job_that_was_put_aside(
    app, clock
):
    (key,), (claim,) = die_with(app, clock, 1)
    refuse(app, key)
    runner = app.runner()
    runner.rescue()
    allow(app)

    ended = runner.run(claim)

    assert ended.outcome == "late"
    assert state_of(app, Parcel, key) == "sending"


def test_when_its_limits_are_used_up_the_record_goes_to_failed(app, clock):
    (key,), _ = die_with(app, clock, 1)
    take_its_place(app)
    app.runner().rescue()
    clock.advance(BACKOFF + timedelta(seconds=1))

    assert app.runner().rescue() == 1

    job = job_of(app, Parcel, key)
    assert (job.state, job.crashes) == (JobState.DISCARDED, 2)
    assert state_of(app, Parcel, key) == "lost"
    assert attempts_of(app, Parcel, key) == [
        (1, "crashed", "sqlalchemy.exc.IntegrityError")
    ]
    assert job.reason == "given up: its record could not be moved back"


def stick(app, clock):
    """Let a parcel get stuck; return its key."""
    (key,), _ = die_with(app, clock, 1)
    refuse(app, key)
    for _ in range(2):
        app.runner().rescue()
        clock.advance(BACKOFF + timedelta(seconds=1))
    return key


def test_a_record_that_nobody_can_move_gets_stuck_and_its_job_says_so(app, clock):
    told = []
    script.tell = lambda parcel, _session, reason: told.append((parcel.id, reason))

    key = stick(app, clock)

    job = job_of(app, Parcel, key)
    assert (job.state, job.token, job.lease_until) == (JobState.DISCARDED, None, None)
    assert job.reason == "stuck: its record cannot be moved: not today"
    assert state_of(app, Parcel, key) == "sending"
    assert told == [(key, job.reason)]
    assert app.runner().rescue() == 0


def test_a_stuck_record_is_listed_until_it_can_be_moved_and_goes_on(app, clock):
    key = stick(app, clock)
    job = job_of(app, Parcel, key)
    assert [stuck.id for stuck in app.stuck_jobs()] == [job.id]

    with pytest.raises(TransitionRefusedError, match=r"go back to 'packed': not today"):
        app.retry_job(job.id)
    assert job_of(app, Parcel, key) == job

    allow(app)
    with acting_as("ada"):
        assert app.retry_job(job.id) is JobState.QUEUED

    assert app.stuck_jobs() == []
    *_, last = app.queries.transitions("Parcel", str(key))
    assert (last["name"], last["source"], last["target"]) == (
        "rescue",
        "sending",
        "packed",
    )
    assert (last["actor"], last["job_id"]) == ("ada", job.id)
    assert app.drain().counts == {"complete": 1}
    assert job_of(app, Parcel, key).idempotency_key == job.idempotency_key


@pytest.mark.parametrize("lose", [forget_the_source, lose_the_source])
def test_no_source_is_guessed_for_a_stuck_record(app, clock, lose):
    key = stick(app, clock)
    allow(app)
    lose(app, key)

    with pytest.raises(TransitionRefusedError, match=r"'renamed'|is not known"):
        app.retry_job(job_of(app, Parcel, key).id)

    assert state_of(app, Parcel, key) == "sending"


def test_a_stuck_record_that_someone_moved_is_stuck_no_more(app, clock):
    key = stick(app, clock)
    allow(app)

    fire(app, Parcel, key, "bounce")

    assert app.stuck_jobs() == []


def test_the_job_of_a_stuck_record_is_not_pruned(app, clock):
    key = stick(app, clock)
    clock.advance(timedelta(days=90))

    app.prune()

    assert job_of(app, Parcel, key).state is JobState.DISCARDED


def test_a_hundred_jobs_that_cannot_be_rescued_hide_none(app, clock):
    keys, _ = die_with(app, clock, 130)
    with app.store.transaction() as held:
        rows = "SELECT id FROM statejobs_jobs WHERE record_id <> :last"
        if app.engine.dialect.name == "sqlite":
            pytest.skip("SQLite locks no rows")
        held.execute(text(f"{rows} FOR UPDATE"), {"last": str(keys[-1])})

        assert app.runner().rescue() == 1

    assert job_of(app, Parcel, keys[-1]).state is JobState.QUEUED
    assert app.runner().rescue() + app.runner().rescue() == 129

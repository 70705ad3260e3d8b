"""Jobs whose time has come are queued: ours, and none is kept from it by another."""

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from statejobs.runner.staging import Staging
from statejobs.store.strangers import peek_queues
from statejobs.values.job import JobState
from tests.support.hostile import allow_updates, execute, refuse_updates
from tests.support.parcels import Parcel, add, job_of, send, state_of

SOON = timedelta(seconds=5)


def stage(app):
    """Stage once, as a worker does that serves one queue."""
    keys = app.runner().work.keys()
    return Staging(app.store).run_once(["default"], keys, app.sources.clock.now())


def states(app, keys):
    return [job_of(app, Parcel, key).state for key in keys]


def test_a_due_job_that_the_database_refuses_to_queue_keeps_no_other_from_it(
    app, clock, caplog
):
    bad, *good = send(app, 9, delay=SOON)
    job_id = job_of(app, Parcel, bad).id
    refuse_updates(app, "statejobs_jobs", f"NEW.id = {job_id}")
    clock.advance(seconds=10)

    assert stage(app) == {"default"}

    assert states(app, good) == [JobState.QUEUED] * 8
    assert job_of(app, Parcel, bad).state is JobState.SCHEDULED
    assert f"job {job_id} is due, and the database refuses to queue it" in caplog.text
    allow_updates(app, "statejobs_jobs")


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_due_job_that_somebody_holds_keeps_no_other_from_it_beside_a_refused_one(
    app, clock
):
    refused, held, *good = send(app, 6, delay=SOON)
    job_id = job_of(app, Parcel, refused).id
    refuse_updates(app, "statejobs_jobs", f"NEW.id = {job_id}")
    clock.advance(seconds=10)

    with app.engine.begin() as user:
        user.execute(
            text(f"SELECT 1 FROM statejobs_jobs WHERE record_id = '{held}' FOR UPDATE")
        )
        stage(app)

    assert states(app, good) == [JobState.QUEUED] * 4
    assert states(app, [refused, held]) == [JobState.SCHEDULED] * 2
    allow_updates(app, "statejobs_jobs")


def test_only_queues_that_are_served_and_keys_that_are_known_are_staged(app, clock):
    elsewhere, unknown, ours = keys = send(app, 3, delay=SOON)
    execute(
        app,
        f"UPDATE statejobs_jobs SET queue = 'nobody' WHERE record_id = '{elsewhere}'",
        f"UPDATE statejobs_jobs SET key = 'other.app' WHERE record_id = '{unknown}'",
    )
    clock.advance(seconds=10)

    stage(app)

    assert states(app, keys) == [
        JobState.SCHEDULED,
        JobState.SCHEDULED,
        JobState.QUEUED,
    ]
    assert ours


def test_a_look_is_woken_by_no_due_job_of_others(app, clock):
    (stranger,) = send(app, delay=SOON)
    execute(
        app,
        f"UPDATE statejobs_jobs SET key = 'other.app' WHERE record_id = '{stranger}'",
    )
    send(app, delay=timedelta(hours=1))

    peek = peek_queues(app.store, ["default"], app.runner().work.keys())

    assert peek.next_due == clock.now() + timedelta(hours=1)


def test_a_bulk_move_that_one_row_refuses_says_so_and_moves_nothing(app):
    bad = add(app, Parcel(), Parcel(), Parcel())
    refuse_updates(app, "parcels", f"NEW.id = {bad}")

    with (
        app.session() as session,
        pytest.raises(DBAPIError, match="the auditor says no"),
    ):
        Parcel.drop.bulk(session, where=text("1 = 1"))

    assert [state_of(app, Parcel, key) for key in (bad, bad + 1, bad + 2)] == [
        "packed"
    ] * 3
    allow_updates(app, "parcels")

"""A trigger of the database that leaves out our UPDATE without an error has refused the move."""

import pytest
from sqlalchemy import func, select, true

from statejobs import JobState, RecordKeptError, StateJobsError, TransitionRefusedError
from statejobs.runner.port import Ending
from statejobs.store.tables import transitions
from tests.support import forms
from tests.support.forms import FORMS, S, office
from tests.support.hostile import (
    allow_updates,
    swallow_redundant_updates,
    swallow_updates,
)
from tests.support.leaflets import Leaflet, approved, print_shop, reset_script
from tests.support.leaflets import script as leaflets
from tests.support.parcels import (
    BACKOFF,
    Parcel,
    attempts_of,
    enqueue,
    job_of,
    script,
    send,
    state_of,
    steps,
)

KEPT = "the database did not move the record: a trigger keeps it"
REFUSED = "statejobs.errors.RecordKeptError"
WORK = ("do_render", "do_notify", "do_fetch", "do_sign", "do_index")
"""A `def`, another, an `async def`, an atomic one, a chunk: each stays in its state."""


def keep_from(app, state, key):
    swallow_updates(app, "parcels", f"NEW.id = {key} AND NEW.state = '{state}'")


def stamp(parcel, _ctx):
    parcel.stamps = 7


def finish_together(app, number):
    runner = app.runner()
    claims = runner.claim("default", limit=number)
    attempts = [runner.attempts.run([claim])[0] for claim in claims]
    assert all(isinstance(attempt, Ending) for attempt in attempts)
    _, left = runner.finisher.finish_many(attempts)
    for success in left:
        runner.finisher.finish(success)


def test_a_kept_record_does_not_complete_among_many_that_finish_together(app):
    kept, *others = send(app, 6)
    keep_from(app, "sent", kept)
    script.send = stamp

    finish_together(app, 6)

    assert [state_of(app, Parcel, key) for key in others] == ["sent"] * 5
    assert state_of(app, Parcel, kept) == "packed"
    assert job_of(app, Parcel, kept).state is JobState.FAILED
    assert attempts_of(app, Parcel, kept) == [(1, "failed", REFUSED)]
    assert app.queries.attempts(job_of(app, Parcel, kept).id)[0]["message"] == KEPT
    assert ("complete", "sending", "sent") not in steps(app, Parcel, kept)


@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_an_action_completes_on_a_kept_record(database_url, form):
    with office(database_url) as app:
        kept, other = enqueue(app, form, "act", 2)
        swallow_updates(
            app, form.__tablename__, f"NEW.id = {kept} AND NEW.state = 'done'"
        )
        forms.script.body = lambda records, _session, _ctx: [
            setattr(r, "n", 1) for r in records
        ]

        app.drain()

        assert state_of(app, form, kept) == S.NEW
        assert state_of(app, form, other) == S.DONE
        assert job_of(app, form, kept).state is JobState.FAILED
        assert attempts_of(app, form, kept) == [(1, "failed", REFUSED)]


def test_a_record_that_may_go_nowhere_is_put_aside_and_comes_back_later(app, clock):
    (key,) = send(app)
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)
    swallow_updates(app, "parcels", f"NEW.id = {key}")

    runner.run(claim)

    job = job_of(app, Parcel, key)
    assert (job.state, job.owner) == (JobState.PROCESSING, None)
    assert KEPT in job.reason
    assert state_of(app, Parcel, key) == "sending"
    clock.advance(BACKOFF * 2)
    assert app.runner().rescue() == 0  # still kept: put aside again
    allow_updates(app, "parcels")
    clock.advance(hours=1)
    assert app.runner().rescue() == 1
    assert state_of(app, Parcel, key) == "packed"


def test_a_record_that_is_kept_at_the_claim_costs_an_attempt_and_writes_no_history(app):
    kept, *others = send(app, 5)
    keep_from(app, "sending", kept)

    app.drain()

    assert [state_of(app, Parcel, key) for key in others] == ["sent"] * 4
    assert steps(app, Parcel, kept) == [("create", None, "packed")]
    assert attempts_of(app, Parcel, kept) == [(1, "failed", REFUSED)]
    assert job_of(app, Parcel, kept).state is JobState.FAILED
    assert KEPT in app.queries.attempts(job_of(app, Parcel, kept).id)[0]["message"]


def test_a_record_that_is_kept_for_good_is_given_up_and_a_retry_names_it(app, clock):
    (key,) = send(app)

    def decline(_parcel, ctx):
        if ctx.attempt == 3:
            swallow_updates(app, "parcels", f"NEW.id = {key}")
        raise ValueError("card declined")

    script.send = decline
    for _ in range(3):
        app.drain()
        clock.advance(hours=1)

    job = job_of(app, Parcel, key)
    assert job.state is JobState.DISCARDED
    assert [stuck.id for stuck in app.stuck_jobs()] == [job.id]
    with pytest.raises(TransitionRefusedError, match="left the record where it was"):
        app.retry_job(job.id)
    allow_updates(app, "parcels")
    assert app.retry_job(job.id) is JobState.QUEUED


def test_a_cancel_whose_record_is_kept_is_refused_and_writes_nothing(app):
    (key,) = send(app)
    keep_from(app, "lost", key)

    with pytest.raises(StateJobsError, match="did not move the record"):
        app.cancel_job(job_of(app, Parcel, key).id)

    assert job_of(app, Parcel, key).state is JobState.QUEUED
    assert steps(app, Parcel, key) == [("create", None, "packed")]


# A move that has nothing to write ----------------------------------------------------------------


@pytest.fixture
def shop(database_url):
    reset_script()
    with print_shop(database_url) as app:
        columns = [column.name for column in Leaflet.__table__.columns]
        swallow_redundant_updates(app, "leaflets", columns)
        yield app
    reset_script()


def ends_of(app, key):
    with app.engine.connect() as connection:
        return connection.execute(
            select(func.count()).where(transitions.c.record_id == str(key))
        ).scalar()


@pytest.mark.parametrize("action", WORK)
def test_a_move_that_changes_nothing_completes_though_the_database_leaves_it_out(
    shop, action
):
    keys = approved(shop, Leaflet, action, number=3)
    before = [ends_of(shop, key) for key in keys]

    assert shop.drain().counts == {"complete": 3}

    assert [ends_of(shop, key) for key in keys] == [count + 1 for count in before]


def test_a_value_that_somebody_else_has_written_meanwhile_is_not_missed(shop):
    (key,) = approved(shop, Leaflet, "do_render")

    def render(leaflet, _ctx):
        with shop.session() as session:
            session.get_one(Leaflet, key).pdf = "new"
            session.commit()
        leaflet.pdf = "new"

    leaflets.render = render
    assert shop.drain().counts == {"complete": 1}


def test_a_value_of_a_resting_record_that_is_kept_is_not_lost_silently(database_url):
    with print_shop(database_url) as app:
        (key,) = approved(app, Leaflet, "do_render")
        swallow_updates(app, "leaflets", f"NEW.id = {key}")
        leaflets.render = lambda leaflet, _ctx: setattr(leaflet, "pdf", "new")

        assert app.drain().counts == {"fail": 1}

        reset_script()
        assert attempts_of(app, Leaflet, key) == [(1, "failed", REFUSED)]


def test_a_kept_record_is_told_to_whoever_moves_it_in_a_flush(app):
    kept, *others = send(app, 4)
    keep_from(app, "dropped", kept)

    with app.session() as session:
        for parcel in session.scalars(select(Parcel)):
            parcel.drop()
        with pytest.raises(
            RecordKeptError, match=f"did not move Parcel {kept}: a trigger keeps"
        ):
            session.commit()
    assert {state_of(app, Parcel, key) for key in (kept, *others)} == {"packed"}

    with app.session() as session:
        assert Parcel.drop.bulk(session, where=true()).moved == len(others)
        session.commit()
    assert state_of(app, Parcel, kept) == "packed"
    assert {state_of(app, Parcel, key) for key in others} == {"dropped"}


def test_a_record_whose_stay_is_kept_is_told_among_many(database_url):
    with print_shop(database_url) as app:
        keys = approved(app, Leaflet, "do_render", number=3)
        swallow_updates(app, "leaflets", f"NEW.id = {keys[1]}")
        names = ", ".join(f"Leaflet {key}" for key in keys)

        with app.session() as session:
            for leaflet in session.scalars(select(Leaflet)):
                leaflet.touch()
            with pytest.raises(
                RecordKeptError, match=f"did not move one of {names}: a trigger"
            ):
                session.commit()

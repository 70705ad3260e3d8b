"""How a job ended is a value: each way that ends one says which, each that revives one takes it."""

import pytest
from sqlalchemy import delete, select, true

from statejobs import Cancel, JobOutcome, JobState, NotFoundError, Snooze, Stale
from statejobs.events import JobEnded, JobRescued, JobStale
from statejobs.store.tables import jobs
from tests.support import parcels
from tests.support.hostile import (
    allow_updates,
    execute,
    is_postgres,
    refuse_updates,
)
from tests.support.parcels import (
    BACKOFF,
    LEASE,
    Letter,
    Message,
    Parcel,
    enqueue,
    fire,
    job_of,
    send,
    state_of,
)

O = JobOutcome  # noqa: E741 - as S for states
ENDINGS = {}
"""What ends the job of a parcel → how it then says that it ended."""


def ends(outcome):
    """Say how a job ends that a story is told of."""

    def keep(tell):
        ENDINGS[tell] = outcome
        return tell

    return keep


def raising(error):
    def act(*_args):
        raise error

    return act


@ends(O.COMPLETED)
def complete(app, _key):
    app.drain()


@ends(O.FAILED)
def use_up_attempts(app, _key):
    parcels.script.send = raising(ValueError("no"))
    for _ in range(3):
        app.drain()
        app.sources.clock.advance(BACKOFF)


@ends(O.FAILED)
def fail_to_begin(app, key):
    refuse_updates(app, "parcels", f"NEW.id = {key} AND NEW.state = 'sending'")
    for _ in range(3):
        app.drain()
        app.sources.clock.advance(BACKOFF)
    allow_updates(app, "parcels")


@ends(O.FAILED)
def fail_to_begin_and_to_move(app, key):
    refuse_updates(app, "parcels", f"NEW.id = {key}")
    for _ in range(3):
        app.drain()
        app.sources.clock.advance(BACKOFF)
    allow_updates(app, "parcels")


@ends(O.CRASHED)
def use_up_crashes(app, _key):
    for _ in range(2):
        app.runner().claim("default", limit=1)
        app.sources.clock.advance(LEASE * 3)
        app.runner().rescue()


@ends(O.CANCELLED)
def cancel_what_waits(app, key):
    app.cancel_job(job_of(app, Parcel, key).id)


@ends(O.CANCELLED)
def cancel_what_runs(app, key):
    def act(*_args):
        app.cancel_job(job_of(app, Parcel, key).id)
        raise ValueError("stopped")

    parcels.script.send = act
    app.drain()


@ends(O.CANCELLED)
def raise_cancel(app, _key):
    parcels.script.send = raising(Cancel("never"))
    app.drain()


@ends(O.LEFT)
def leave(app, key):
    fire(app, Parcel, key, "drop")


@ends(O.LEFT)
def leave_in_bulk(app, _key):
    with app.session() as session:
        Parcel.drop.bulk(session, where=true())
        session.commit()


@ends(O.STALE)
def be_refused_by_a_guard(app, _key):
    parcels.script.may_send = lambda _parcel: False
    app.drain()


@ends(O.STALE)
def raise_stale(app, _key):
    parcels.script.send = raising(Stale("sold out"))
    app.drain()


@ends(O.STALE)
def be_elsewhere_by_sql(app, key):
    execute(app, f"UPDATE parcels SET state = 'sent' WHERE id = {key}")
    app.drain()
    execute(app, f"UPDATE parcels SET state = 'packed' WHERE id = {key}")


@ends(O.STALE)
def delete_the_record(app, key):
    with app.session() as session:
        session.delete(session.get_one(Parcel, key))
        session.commit()


@ends(O.STALE)
def delete_the_record_by_sql(app, key):
    execute(app, f"DELETE FROM parcels WHERE id = {key}")
    app.drain()


@ends(O.STALE)
def reuse_the_key(app, key):
    execute(
        app,
        f"DELETE FROM parcels WHERE id = {key}",
        "DELETE FROM statejobs_transitions",  # else one history told of two records
    )
    with app.session() as session:
        session.add(Parcel(id=key))
        session.commit()


@ends(O.SUPERSEDED)
def reuse_the_key_while_it_runs(app, key):
    app.runner().claim("default", limit=1)
    reuse_the_key(app, key)


@ends(O.SUPERSEDED)
def be_overtaken(app, key):
    parcels.script.send = lambda *_: fire(app, Parcel, key, "drop")
    app.drain()


@ends(O.SUPERSEDED)
def delete_the_record_while_it_runs(app, key):
    parcels.script.send = lambda *_: delete_the_record(app, key)
    app.drain()


@pytest.mark.parametrize("tell", ENDINGS, ids=lambda tell: tell.__name__)
def test_each_way_to_end_a_job_says_which_it_was(app, tell):
    (key,) = send(app)
    job_id = job_of(app, Parcel, key).id

    tell(app, key)

    ended = app.queries.job(job_id)
    assert ended.outcome is ENDINGS[tell]
    assert ended.state is ENDINGS[tell].state


def test_each_outcome_is_told_of_here():
    assert {*ENDINGS.values()} == {*JobOutcome}


def test_a_row_that_cannot_be_read_has_failed(app, mending):
    (key,) = send(app)
    never = "infinity" if is_postgres(app) else "soon"
    mend = mending("UPDATE statejobs_jobs SET started_at = NULL")
    execute(app, f"UPDATE statejobs_jobs SET started_at = '{never}'")

    app.drain()

    mend()
    assert job_of(app, Parcel, key).outcome is O.FAILED


@pytest.mark.parametrize(
    ("claims", "outcome"), [(False, O.FAILED), (True, O.CRASHED)], ids=str
)
def test_a_stuck_record_has_a_job_that_failed_or_crashed(app, clock, claims, outcome):
    (key,) = send(app)
    if claims:
        app.runner().claim("default", limit=1)
        refuse_updates(app, "parcels", f"OLD.id = {key} AND OLD.state = 'sending'")
        for _ in range(10):
            clock.advance(LEASE * 100)
            app.runner().rescue()
    else:
        execute(app, "UPDATE statejobs_jobs SET max_attempts = 1")
        parcels.script.send = raising(ValueError("no"))
        refuse_updates(app, "parcels", f"OLD.id = {key} AND OLD.state = 'sending'")
        app.drain()
    allow_updates(app, "parcels")

    assert [job.outcome for job in app.stuck_jobs()] == [outcome]
    app.retry_job(job_of(app, Parcel, key).id)
    assert job_of(app, Parcel, key).outcome is None


# Revived -----------------------------------------------------------------------------------------


def retry_by_transition(app, key):
    fire(app, Parcel, key, "find")


def retry_by_hand(app, key):
    app.retry_job(job_of(app, Parcel, key).id)


def retry_in_bulk(app, _key):
    with app.session() as session:
        Parcel.find.bulk(session, where=true())
        session.commit()


@pytest.mark.parametrize("revive", [retry_by_transition, retry_by_hand, retry_in_bulk])
def test_a_job_that_is_revived_has_none_again(app, revive):
    (key,) = send(app)
    raise_cancel(app, key)
    assert job_of(app, Parcel, key).outcome is O.CANCELLED

    revive(app, key)

    job = job_of(app, Parcel, key)
    assert (job.state, job.outcome) == (JobState.QUEUED, None)


def test_a_stale_job_of_a_record_that_rests_is_revived_by_hand_and_by_asking(app):
    (key,) = enqueue(app, Letter, "put_on_scale")
    parcels.script.weigh = raising(Stale("weighed"))
    app.drain()
    assert job_of(app, Letter, key).outcome is O.STALE

    app.retry_job(job_of(app, Letter, key).id)
    assert job_of(app, Letter, key).outcome is None
    app.drain()
    with app.session() as session:
        Letter.put_on_scale.enqueue(session, session.get_one(Letter, key))
        session.commit()

    assert job_of(app, Letter, key).outcome is None


@pytest.mark.parametrize("outcome", [None, Stale("no"), Cancel("no"), Snooze(hours=1)])
def test_a_job_that_runs_again_has_none(app, outcome):
    def act(letter, _ctx, _label):
        with app.session() as session:
            Letter.put_on_scale.enqueue(session, session.get_one(Letter, letter.id))
            session.commit()
        if outcome is not None:
            raise outcome

    heard = []
    app.telemetry.subscribe(heard.append, JobEnded)
    (key,) = enqueue(app, Letter, "put_on_scale")
    parcels.script.weigh = act

    app.step()

    job = job_of(app, Letter, key)
    assert (job.state, job.outcome) == (JobState.QUEUED, None)
    assert [(end.state, end.job_outcome) for end in heard] == [(JobState.QUEUED, None)]


def test_a_claim_takes_the_outcome_that_a_worker_of_before_left(app):
    (key,) = send(app)
    execute(app, "UPDATE statejobs_jobs SET outcome = 'cancelled'")

    app.runner().claim("default", limit=1)

    assert job_of(app, Parcel, key).outcome is None


# Told --------------------------------------------------------------------------------------------


def test_events_and_a_drain_tell_how_jobs_ended(app):
    heard = []
    app.telemetry.subscribe(heard.append, JobEnded, JobStale)
    done, locked, *_ = send(app, 2)
    parcels.script.may_send = lambda parcel: parcel.id == done

    result = app.drain()

    assert [end.job_outcome for end in heard] == [O.COMPLETED, O.STALE]
    assert [end.job_outcome for end in result.ended] == [O.COMPLETED, O.STALE]
    assert [end.job.outcome for end in result.ended] == [O.COMPLETED, O.STALE]
    assert state_of(app, Parcel, locked) == "packed"


def test_an_attempt_after_which_a_job_goes_on_tells_no_end(app):
    heard = []
    app.telemetry.subscribe(heard.append, JobEnded)
    send(app)
    parcels.script.send = raising(ValueError("no"))

    app.drain()

    assert [(end.outcome, end.job_outcome) for end in heard] == [("fail", None)]


def test_a_rescue_tells_whether_that_was_the_end(app):
    heard = []
    app.telemetry.subscribe(heard.append, JobRescued)
    (key,) = send(app)

    use_up_crashes(app, key)

    assert [end.job_outcome for end in heard] == [None, O.CRASHED]


def test_jobs_are_asked_for_by_how_they_ended(app):
    done, left, stale = send(app, 3)
    fire(app, Parcel, left, "drop")
    parcels.script.may_send = lambda parcel: parcel.id == done
    app.drain()

    def found(*outcomes):
        return {int(job.record_id) for job in app.queries.jobs(outcomes=outcomes)}

    assert found(O.STALE) == {stale}
    assert found("left", O.COMPLETED) == {left, done}
    assert found() == {done, left, stale}
    assert app.queries.jobs(outcomes=["stale"], states=["completed"]) == []


def test_an_outcome_that_nobody_knows_is_refused(app):
    with pytest.raises(NotFoundError) as refused:
        app.queries.jobs(outcomes=["superceded"])

    assert str(refused.value) == (
        "no job outcome 'superceded'; did you mean 'superseded'?"
    )


def test_what_only_newer_code_knows_is_shown_as_it_is(app, mending):
    (key,) = send(app)
    app.drain()
    mend = mending("UPDATE statejobs_jobs SET outcome = 'completed'")
    execute(app, "UPDATE statejobs_jobs SET outcome = 'forgotten'")

    outcome = job_of(app, Parcel, key).outcome

    mend()
    assert outcome == "forgotten"


def test_nothing_reads_a_reason(app):
    """Whatever people read there, jobs go on as their outcome says."""
    keys = send(app, 3)
    fire(app, Parcel, keys[0], "drop")
    app.cancel_job(job_of(app, Parcel, keys[1]).id)
    with app.engine.begin() as connection:
        connection.execute(jobs.update().values(reason="stale: stuck: superseded: x"))

    app.drain()

    assert [job_of(app, Parcel, key).outcome for key in keys] == [
        O.LEFT,
        O.CANCELLED,
        O.COMPLETED,
    ]


# Stale -------------------------------------------------------------------------------------------


def test_an_async_action_says_that_it_is_stale(app):
    async def act(*_args):
        raise Stale("read already")

    (key,) = enqueue(app, Message, "get")
    parcels.script.fetch = act

    app.drain()

    job = job_of(app, Message, key)
    assert (job.outcome, job.reason) == (O.STALE, "stale: read already")
    assert (job.attempt, app.queries.attempts(job.id)) == (0, [])
    assert state_of(app, Message, key) == "wanted"


def test_a_subclass_of_stale_that_says_no_reason_has_failed(app):
    class Odd(Stale):
        def __init__(self):
            Exception.__init__(self, "odd")

    (key,) = send(app)
    parcels.script.send = raising(Odd())

    app.drain()

    assert job_of(app, Parcel, key).state is JobState.FAILED


def test_deleting_the_stale_jobs_finds_them_by_value(app):
    kept, gone = send(app, 2)
    parcels.script.may_send = lambda parcel: parcel.id == kept
    app.drain()

    with app.engine.begin() as connection:
        connection.execute(delete(jobs).where(jobs.c.outcome == O.STALE))
        left = connection.scalars(select(jobs.c.record_id)).all()

    assert left == [str(kept)]
    assert state_of(app, Parcel, gone) == "packed"

"""What jobs, history and logs say is what happened."""

from datetime import timedelta

import pytest
from sqlalchemy import make_url, text

from statejobs import JobState, Snooze
from tests.support import errands
from tests.support.errands import ask, household
from tests.support.parcels import (
    Parcel,
    fire,
    job_of,
    post_office,
    script,
    send,
)


def report(parcel, ctx):
    ctx.progress(1, 2)


def fail_later(parcel, ctx):
    ctx.progress(1, 2)
    raise RuntimeError("no")


def snooze(parcel, ctx):
    ctx.progress(1, 2)
    raise Snooze(timedelta(seconds=5))


def test_an_ended_job_shows_how_far_it_came(app):
    (key,) = send(app)
    script.send = report
    app.drain()

    assert job_of(app, Parcel, key).progress is not None


@pytest.mark.parametrize("body", [fail_later, snooze])
def test_a_job_that_waits_again_shows_no_progress_of_its_last_attempt(app, body):
    (key,) = send(app)
    script.send = body
    app.drain()

    assert job_of(app, Parcel, key).progress is None


def test_a_job_that_is_taken_up_again_shows_no_progress_of_its_last_attempt(app, clock):
    retried, sent_again = send(app, 2)
    script.send = fail_later
    for _ in range(4):
        app.drain()
        clock.advance(minutes=1)
    assert job_of(app, Parcel, retried).progress is not None

    app.retry_job(job_of(app, Parcel, retried).id)
    fire(app, Parcel, sent_again, "find")

    for key in (retried, sent_again):
        job = job_of(app, Parcel, key)
        assert (job.state, job.progress) == (JobState.QUEUED, None)


def returns_of(app, key):
    rows = app.queries.transitions("Parcel", str(key))
    return [row["reason"] for row in rows if row["name"] == "send_off.return.packed"]


def test_a_job_that_waited_for_a_slot_is_not_said_to_have_been_stopped(app):
    (key,) = send(app)
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)

    runner.finisher.release(claim)

    assert returns_of(app, key) == ["given back: it had waited here for its turn"]


def test_a_job_that_was_stopped_says_so(app):
    (key,) = send(app)
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)
    claim.has_begun = True

    runner.finisher.release(claim)

    assert returns_of(app, key) == ["released: the worker was stopped"]


def test_the_log_of_a_task_names_no_record(database_url):
    seen = []
    errands.script.errand = lambda ctx, *_: seen.append(ctx.log.extra)
    with household(database_url) as app:
        ask(app)
        app.drain()
    errands.reset()

    (fields,) = seen
    assert set(fields) == {"job_id", "key", "attempt"}


@pytest.fixture
def guarded(postgres_url):
    """An app whose role sees no parcel, since row security hides them."""
    with post_office(postgres_url) as owner:
        with owner.engine.begin() as connection:
            for statement in (
                "CREATE ROLE clerk LOGIN",
                "GRANT USAGE ON SCHEMA public TO clerk",
                "GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk",
                "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO clerk",
                "ALTER TABLE parcels ENABLE ROW LEVEL SECURITY",
            ):
                connection.execute(text(statement))
        url = make_url(postgres_url).set(username="clerk")
        with post_office(url) as app:
            yield owner, app
        with owner.engine.begin() as connection:
            connection.execute(text("DROP OWNED BY clerk"))
            connection.execute(text("DROP ROLE clerk"))


@pytest.mark.postgres
def test_row_security_that_hides_a_record_is_named(guarded, caplog):
    owner, app = guarded
    (key,) = send(owner)

    app.drain()

    reason = job_of(owner, Parcel, key).reason
    assert (
        "row security on parcels hides its record from the role clerk, or it is gone"
        in reason
    )
    assert "BYPASSRLS" in caplog.text


@pytest.mark.postgres
def test_a_record_that_is_gone_is_said_to_be_gone(postgres_url, caplog):
    with post_office(postgres_url) as app:
        (key,) = send(app)
        with app.engine.begin() as connection:
            connection.execute(text("DELETE FROM parcels"))

        app.drain()

        assert job_of(app, Parcel, key).reason == "its record is gone"
    assert caplog.records == []

"""A checkpoint outlives its attempt, whatever form the action has and whatever it has written."""

from collections import deque

import pytest
from sqlalchemy import text, update

from statejobs import Cancel, Snooze
from statejobs.runner.calls import calls_of, pop_call
from statejobs.runner.port import Ending
from statejobs.store.tables import jobs
from statejobs.values.outcome import Release
from tests.support.forms import (
    FORMS,
    Atomic,
    Awaited,
    Chunked,
    Plain,
    board,
    office,
    script,
    write_on_board,
)
from tests.support.parcels import enqueue, job_of, run_together, state_of

# a call of many has no checkpoint
SINGLE = [form for form in FORMS if form is not Chunked]
every_form = pytest.mark.parametrize("form", SINGLE, ids=lambda form: form.__name__)


@pytest.fixture
def app(database_url):
    """An app with an action in each form."""
    with office(database_url) as opened:
        yield opened


def make_due(app):
    with app.engine.begin() as connection:
        connection.execute(update(jobs).values(state="queued"))


@every_form
@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("how", ["snooze", "fail"])
def test_the_second_attempt_finds_what_the_first_one_saved(app, form, writes, how):
    (key,) = enqueue(app, form, "act")
    seen = []

    def body(_records, session, ctx):
        seen.append(dict(ctx.checkpoint))
        if writes:
            write_on_board(session)
        if "slept" not in ctx.checkpoint:
            ctx.checkpoint["slept"] = True
            raise Snooze(minutes=1) if how == "snooze" else ValueError

    script.body = body
    app.drain()
    make_due(app)
    app.drain()

    assert seen == [{}, {"slept": True}]
    assert (state_of(app, form, key), job_of(app, form, key).checkpoint) == (
        "done",
        None,
    )
    assert board(app) == int(writes)  # what the first one wrote did not


@every_form
def test_what_is_saved_after_a_rollback_of_the_body_counts(app, form):
    (key,) = enqueue(app, form, "act")

    def body(_records, session, ctx):
        write_on_board(session)
        ctx.checkpoint["step"] = 1
        if form in {Plain, Awaited}:
            session.rollback()
        ctx.checkpoint["step"] = 2
        raise Snooze(minutes=1)

    script.body = body
    app.drain()

    assert job_of(app, form, key).checkpoint == '{"step":2}'


@every_form
def test_progress_after_a_write_harms_nothing(app, form):
    (key,) = enqueue(app, form, "act")
    shown = []

    def body(_records, session, ctx):
        write_on_board(session)
        ctx.progress(1, 2)
        shown.append(job_of(app, form, key).progress)

    script.body = body
    app.drain()

    can_show = app.engine.dialect.name == "postgresql"
    assert shown == ['{"done":1,"total":2}' if can_show else None]
    assert state_of(app, form, key) == "done"


def test_atomic_ones_that_share_a_transaction_each_keep_their_own(app):
    keys = enqueue(app, Atomic, "act", 3)

    def body(records, session, ctx):
        write_on_board(session)
        ctx.checkpoint["me"] = records[0].id
        raise Snooze(minutes=1)

    script.body = body
    claims = app.runner().claim("default", limit=3)
    run_together(app.runner(), pop_call(deque(calls_of(claims)), most=100))

    assert [job_of(app, Atomic, key).checkpoint for key in keys] == [
        f'{{"me":{key}}}' for key in keys
    ]


def test_what_runs_again_within_its_attempt_finds_it_too(app):
    first, second = enqueue(app, Atomic, "act", 2)
    seen = []

    def body(records, session, ctx):
        seen.append((records[0].id, dict(ctx.checkpoint)))
        ctx.checkpoint["ran"] = True
        if records[0].id == second and len(seen) == 2:
            # takes its record away: the batch falls
            session.execute(text(f"UPDATE atomics SET id = 77 WHERE id = {second}"))

    script.body = body
    claims = app.runner().claim("default", limit=2)
    run_together(app.runner(), pop_call(deque(calls_of(claims)), most=100))

    assert seen == [
        (first, {}),
        (second, {}),
        (first, {"ran": True}),
        (second, {"ran": True}),
    ]


def test_a_checkpoint_stays_with_a_job_that_is_given_up(app):
    (key,) = enqueue(app, Atomic, "act")

    def body(_records, _session, ctx):
        ctx.checkpoint["step"] = 1
        raise Cancel("enough")

    script.body = body
    app.drain()

    assert job_of(app, Atomic, key).checkpoint == '{"step":1}'


def test_a_job_that_is_given_back_keeps_what_it_saved(app):
    (key,) = enqueue(app, Atomic, "act")
    (claim,) = app.runner().claim("default", limit=1)
    claim.unsaved_checkpoint = '{"step":1}'

    app.runner().finisher.finish(Ending(claim, Release()))

    assert job_of(app, Atomic, key).checkpoint == '{"step":1}'

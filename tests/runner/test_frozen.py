"""A worker that stands still in an open transaction: its locks must not outlive it for long."""

import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, select, text, update

from statejobs import ConfigurationError, WorkerSettings
from tests.support import forms
from tests.support.errands import Line, ask, fetch, household, reset, slow
from tests.support.errands import script as tasks
from tests.support.parcels import (
    Letter,
    LetterState,
    Message,
    Parcel,
    ParcelState,
    enqueue,
    job_of,
    post_office,
    script,
    send,
    state_of,
)

pytestmark = pytest.mark.postgres

SETTINGS = WorkerSettings(
    lease=timedelta(seconds=1),
    heartbeat=timedelta(seconds=0.5),
    timeout_grace=timedelta(seconds=0.5),
    idle_in_transaction=timedelta(seconds=2),
)
WAIT_ON = text("SET LOCAL lock_timeout TO 0; SET LOCAL statement_timeout TO 0")
SHOW = text("SHOW idle_in_transaction_session_timeout")


def seconds_to_write(app, statement):
    """Write as a user who waits for locks for as long as it takes; return how long it took."""
    began = time.monotonic()
    with app.engine.begin() as user:
        user.execute(WAIT_ON)
        user.execute(statement)
    return time.monotonic() - began


@pytest.fixture
def office(postgres_url, clock):
    with post_office(postgres_url, clock=clock, settings=SETTINGS) as app:
        yield app


def test_a_frozen_atomic_action_holds_its_record_for_two_leases_only(office):
    """As after SIGSTOP, or a power cut that no socket tells: it sends nothing any more."""
    holds, goes_on = threading.Event(), threading.Event()

    def stand_still(letter, _ctx):
        holds.set()
        goes_on.wait(60)

    script.seal = stand_still
    (key,) = enqueue(office, Letter, "press")
    frozen = threading.Thread(target=office.drain, daemon=True)
    frozen.start()
    assert holds.wait(30)

    try:
        waited = seconds_to_write(
            office, update(Letter.__table__).where(Letter.id == key).values(grams=7)
        )
    finally:
        goes_on.set()
        frozen.join(30)

    assert 0.5 < waited < 30
    assert state_of(office, Letter, key) == LetterState.OPEN
    (attempt,) = office.queries.attempts(job_of(office, Letter, key).id)
    assert "stood idle" in attempt["message"]
    assert "idle_in_transaction" in attempt["message"]


def test_what_a_body_that_stood_idle_wrote_is_not_kept(office):
    def write_and_wait(parcel, ctx):
        parcel.stamps = 1
        ctx.session.flush()
        time.sleep(3)  # noqa: TID251 - longer than two leases
        ctx.session.execute(text("SELECT 1"))

    script.send = write_and_wait
    (key,) = send(office)

    office.drain()

    assert state_of(office, Parcel, key) == ParcelState.PACKED
    (attempt,) = office.queries.attempts(job_of(office, Parcel, key).id)
    assert "stood idle" in attempt["message"]


def test_a_chunk_that_stood_idle_is_told_so_and_holds_its_records_no_longer(
    postgres_url,
):
    holds, goes_on = threading.Event(), threading.Event()

    def stand_still(_records, session, _ctx):
        forms.write_on_board(session)
        if not goes_on.is_set():
            holds.set()
            goes_on.wait(60)

    with forms.office(postgres_url, settings=SETTINGS) as app:
        forms.script.body = stand_still
        with app.session() as session:
            chunked = [forms.Chunked() for _ in range(3)]
            session.add_all(chunked)
            session.flush()
            forms.Chunked.act.enqueue_many(session, chunked)
            session.commit()
        frozen = threading.Thread(target=app.drain, daemon=True)
        frozen.start()
        assert holds.wait(30)
        try:
            waited = seconds_to_write(app, update(forms.Chunked.__table__).values(n=7))
        finally:
            goes_on.set()
            frozen.join(60)

        with app.session() as session:
            assert {c.state for c in session.scalars(select(forms.Chunked))} == {
                forms.S.DONE
            }
        assert 0.5 < waited < 30
        # each by itself, once the call for all had come to nothing
        assert forms.board(app) == 3


def test_every_form_of_action_limits_how_long_its_transaction_stands_idle(office):
    seen = []

    def look(record, ctx):
        ctx.session.execute(text("CREATE TEMPORARY TABLE IF NOT EXISTS begun (n int)"))
        seen.append(ctx.session.scalar(SHOW))

    async def look_async(record, ctx):
        await ctx.session.execute(
            text("CREATE TEMPORARY TABLE IF NOT EXISTS begun (n int)")
        )
        seen.append(await ctx.session.scalar(SHOW))

    script.send, script.fetch = look, look_async
    script.seal = lambda _letter, ctx: seen.append(ctx.session.scalar(SHOW))
    send(office)
    enqueue(office, Letter, "press")
    enqueue(office, Message, "get")

    office.drain()

    assert seen == ["2s", "2s", "2s"]


def test_a_task_has_at_least_its_timeout_and_the_grace(postgres_url, clock):
    seen = []

    def look(ctx, *_args):
        ctx.session.add(Line(text="begins a transaction"))
        ctx.session.flush()
        seen.append(ctx.session.scalar(SHOW))

    async def look_async(ctx, _url):
        ctx.session.add(Line(text="begins a transaction"))
        await ctx.session.flush()
        seen.append(await ctx.session.scalar(SHOW))

    tasks.errand, tasks.fetch = look, look_async
    short = replace(SETTINGS, idle_in_transaction=timedelta(seconds=0.3))
    try:
        with household(postgres_url, clock=clock, settings=short) as app:
            ask(app)
            ask(app, slow)
            ask(app, fetch, "here")
            app.drain()
    finally:
        reset()

    assert seen == ["300ms", "700ms", "300ms"]


def test_claims_and_outcomes_are_limited_too_and_sessions_of_users_are_not(office):
    with office.store.transaction() as connection:
        assert connection.scalar(SHOW) == "2s"
    with office.session() as session, session.begin():
        assert session.scalar(SHOW) == "0"
    with office.store.working.connect() as connection:
        assert connection.scalar(SHOW) == "0"


def test_an_engine_of_a_user_keeps_its_own_limit(postgres_url, clock):
    engine = create_engine(
        postgres_url,
        connect_args={"options": "-c idle_in_transaction_session_timeout=7s"},
    )
    with post_office(engine, clock=clock, settings=SETTINGS) as app:
        send(app)
        app.drain()
        with app.session() as session:
            assert session.scalar(SHOW) == "7s"


@pytest.mark.parametrize(
    ("settings", "timeout", "limit"),
    [
        ({}, None, 60),
        ({}, 50, 60),
        ({}, 300, 305),
        ({"lease": timedelta(seconds=3), "heartbeat": timedelta(seconds=1)}, None, 10),
        ({"idle_in_transaction": timedelta(minutes=10)}, None, 600),
        ({"idle_in_transaction": timedelta(seconds=1)}, 20, 25),
    ],
)
def test_the_limit_is_never_below_what_a_body_may_take(settings, timeout, limit):
    given = None if timeout is None else timedelta(seconds=timeout)

    assert WorkerSettings(**settings).idle_limit(given) == timedelta(seconds=limit)


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(
        ConfigurationError, match="idle_in_transaction must be positive"
    ):
        WorkerSettings(idle_in_transaction=timedelta())

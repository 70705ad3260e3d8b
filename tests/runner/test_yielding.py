"""Where a worker and somebody else wait for each other, it is the worker who yields."""

import threading
import time

import pytest
from sqlalchemy import select, text, update

from statejobs import Snooze
from statejobs.runner.port import Ending
from statejobs.store.engines.defaults import wait_as_long_as_it_takes
from statejobs.store.tables import jobs
from statejobs.values.outcome import Complete
from tests.support.digests import ask, digests
from tests.support.parcels import (
    Letter,
    Parcel,
    attempts_of,
    enqueue,
    job_of,
    load,
    post_office,
    script,
    send,
    state_of,
)

pytestmark = pytest.mark.postgres


@pytest.fixture
def app(postgres_url, clock):
    """An app on PostgreSQL: SQLite has one writer at a time, who waits for nobody."""
    with post_office(postgres_url, clock=clock) as opened:
        yield opened


class Stranger(threading.Thread):
    """Locks a job first and its record last, with SQL of its own: against every order."""

    def __init__(self, app, key):
        super().__init__()
        self._app, self._key = app, key
        self.has_job, self.error, self.waited = threading.Event(), None, None

    def run(self):
        try:
            with self._app.engine.begin() as connection:
                wait_as_long_as_it_takes(connection)
                connection.execute(update(jobs).values(tags=jobs.c.tags))
                self.has_job.set()
                time.sleep(0.2)  # noqa: TID251 - until the worker holds the record
                began = time.monotonic()
                connection.execute(
                    text(f"UPDATE parcels SET note = 'seen' WHERE id = {self._key}")
                )
                self.waited = time.monotonic() - began
        except Exception as error:  # noqa: BLE001 - shown by the test
            self.error = error


def meet(app, body):
    """Run one job whose worker and a stranger wait for each other."""
    (key,) = send(app)
    strangers = []

    def work(parcel, ctx):
        stranger = Stranger(app, parcel.id)
        strangers.append(stranger)
        stranger.start()
        stranger.has_job.wait(10)
        body(parcel, ctx)

    script.send = work
    (claim,) = app.runner().claim("default", limit=1)
    ended = app.runner().run(claim)
    strangers[0].join(30)
    return key, strangers[0], ended


def test_a_success_yields_and_is_committed_afterwards(app):
    key, stranger, ended = meet(app, lambda parcel, _ctx: setattr(parcel, "stamps", 1))

    assert (ended.outcome, stranger.error) == ("complete", None)
    assert stranger.waited < 0.95  # the server looks for a deadlock after a second
    assert (state_of(app, Parcel, key), attempts_of(app, Parcel, key)) == ("sent", [])
    assert (load(app, Parcel, key).stamps, load(app, Parcel, key).note) == (1, "seen")


def test_a_failure_yields_and_is_recorded_once(app):
    key, stranger, ended = meet(app, lambda *_: 1 / 0)

    assert (ended.outcome, stranger.error) == ("fail", None)
    assert stranger.waited < 0.95
    assert attempts_of(app, Parcel, key) == [(1, "failed", "ZeroDivisionError")]
    assert job_of(app, Parcel, key).state.value == "failed"


def test_it_yields_after_half_of_what_the_server_waits(app):
    with app.store.transaction(yields=True) as connection:
        assert connection.scalar(text("SHOW lock_timeout")) == "500ms"

    with app.store.transaction() as connection:
        assert connection.scalar(text("SHOW lock_timeout")) == "0"


class Holder(threading.Thread):
    """Holds the rows of all jobs, as an open transaction that enqueues them again does."""

    def __init__(self, app):
        super().__init__(daemon=True)
        self._app, self.has_jobs, self.may_end = (
            app,
            threading.Event(),
            threading.Event(),
        )

    def run(self):
        with self._app.engine.begin() as connection:
            connection.execute(update(jobs).values(tags=jobs.c.tags))
            self.has_jobs.set()
            self.may_end.wait(60)


@pytest.fixture
def holder(app):
    thread = Holder(app)
    yield thread
    thread.may_end.set()
    if thread.ident is not None:
        thread.join(30)


def test_a_note_of_an_action_that_holds_its_record_waits_for_nobody_and_is_not_lost(
    app, holder
):
    """The holder of the job may wait for the record: no server sees that the worker waits too."""
    (key,) = enqueue(app, Letter, "press")
    seen = []

    def note(_letter, ctx):
        seen.append(dict(ctx.checkpoint))
        if seen == [{}]:
            holder.start()
            assert holder.has_jobs.wait(10)
            ctx.checkpoint["page"] = 1
            ctx.progress(1, 2)
            holder.may_end.set()
            holder.join(30)
            raise Snooze(seconds=1)

    script.seal = note
    app.drain()
    app.sources.clock.advance(seconds=2)
    app.drain()

    assert seen == [{}, {"page": 1}]
    assert (state_of(app, Letter, key), attempts_of(app, Letter, key)) == ("sealed", [])


def test_a_checkpoint_of_an_action_that_holds_nothing_is_saved_before_it_goes_on(
    app, holder
):
    (key,) = send(app)
    saved = []

    def note(_parcel, ctx):
        holder.start()
        assert holder.has_jobs.wait(10)
        threading.Timer(
            1.2, holder.may_end.set
        ).start()  # longer than it waits at a time
        ctx.checkpoint["page"] = 1
        with app.engine.connect() as connection:
            saved.append(connection.scalar(select(jobs.c.checkpoint)))

    script.send = note
    app.drain()

    assert saved == ['{"page":1}']
    assert state_of(app, Parcel, key) == "sent"


def test_unique_jobs_that_are_completed_together_wait_only_briefly(postgres_url):
    """PostgreSQL may wait in spite of SKIP LOCKED; here a trigger does."""
    with digests(postgres_url) as (app, send):
        ids = [ask(app, send, customer).job_id for customer in (1, 2)]
        claims = app.runner().claim("default", limit=2)
        assert {claim.job.id for claim in claims} == set(ids)
        endings = [Ending(claim, Complete()) for claim in claims]
        with app.engine.begin() as connection:
            connection.execute(text(WAITS_AT_LAST.format(last=ids[1])))
            connection.execute(text(BY_TRIGGER))
        stranger = LastFirst(app, ids)
        stranger.start()
        stranger.has_last.wait(10)

        _, left = app.runner().finisher.finish_many(endings)
        stranger.join(30)

        assert stranger.error is None
        assert [ending.claim.job.id for ending in left] == ids


WAITS_AT_LAST = (
    "CREATE FUNCTION waits_at_last() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF NEW.id = {last} THEN PERFORM pg_advisory_xact_lock(1); "
    "ELSE PERFORM pg_sleep(0.4); END IF; RETURN NEW; END $$"
)
BY_TRIGGER = (
    "CREATE TRIGGER waits_at_last BEFORE UPDATE ON statejobs_jobs "
    "FOR EACH ROW EXECUTE FUNCTION waits_at_last()"
)


class LastFirst(threading.Thread):
    """Holds what the last job waits for, and then locks the first."""

    def __init__(self, app, ids):
        super().__init__()
        self._app, self._first = app, min(ids)
        self.has_last, self.error = threading.Event(), None

    def run(self):
        try:
            with self._app.engine.begin() as connection:
                connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
                self.has_last.set()
                time.sleep(0.2)  # noqa: TID251 - until the worker holds the first
                first = select(jobs.c.id).where(jobs.c.id == self._first)
                connection.execute(first.with_for_update())
        except Exception as error:  # noqa: BLE001 - shown by the test
            self.error = error

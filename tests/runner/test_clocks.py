"""Nodes whose machines disagree about the time, on a database that knows it."""

import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from statejobs import Sources, StateJobs, WorkerSettings
from statejobs.events import ClockSet, JobLate, JobRescued, LeasesLost
from statejobs.people.workers import workers
from statejobs.store.nodes import ask_time
from statejobs.store.tables import nodes
from statejobs.values.clock import SystemClock
from tests.support.clock import ManualClock
from tests.support.parcels import (
    POST,
    Parcel,
    ParcelState,
    close_app,
    post_office,
    script,
    send,
)
from tests.support.processes import DEADLINE
from tests.support.services import run_service

pytestmark = pytest.mark.postgres

SETTINGS = WorkerSettings(
    lease=timedelta(seconds=2),
    heartbeat=timedelta(seconds=0.5),
    rescue=timedelta(seconds=0.2),
    poll=timedelta(seconds=0.1),
)


class WrongClock(SystemClock):
    """A machine whose wall clock is off."""

    def __init__(self, **off):
        self.off = timedelta(**off)

    def now(self):
        return super().now() + self.off


class OtherWrongClock:
    """Likewise, by someone who has read only the protocol."""

    monotonic = staticmethod(time.monotonic)

    def now(self):
        return datetime.now(UTC) + timedelta(seconds=40)  # noqa: TID251


@contextmanager
def node(url, clock):
    """An app on a machine with *clock*, and what it tells."""
    app = StateJobs(
        url, domains=[POST], settings=SETTINGS, sources=Sources(clock=clock)
    )
    told = []
    app.telemetry.subscribe(told.append)
    try:
        app.create_all()
        yield app, told
    finally:
        close_app(app)


def events(told):
    return {type(happening) for happening in told}


def all_sent(app):
    with app.session() as session:
        return set(session.scalars(select(Parcel.state))) == {ParcelState.SENT}


@pytest.mark.parametrize(
    "clock",
    [WrongClock(minutes=10), WrongClock(minutes=-10), OtherWrongClock()],
    ids=["ahead", "behind", "ahead by another class"],
)
def test_a_node_whose_clock_is_wrong_takes_no_live_job_and_loses_none_of_its_own(
    postgres_url, clock
):
    script.send = lambda _parcel, _ctx: time.sleep(3)  # noqa: TID251 - longer than a lease
    with (
        node(postgres_url, SystemClock()) as (good, good_told),
        node(postgres_url, clock) as (
            wrong,
            wrong_told,
        ),
    ):
        send(good, number=6)
        with good.running(), wrong.running():
            assert _wait_until(lambda: all_sent(good))

    misjudged = {JobRescued, JobLate, LeasesLost}
    assert not misjudged & events(good_told)
    assert not misjudged & events(wrong_told)


def test_a_wall_clock_that_jumps_while_jobs_run_harms_nobody(postgres_url):
    clock = WrongClock()
    script.send = lambda _parcel, _ctx: time.sleep(3)  # noqa: TID251
    with node(postgres_url, clock) as (app, told):
        send(app, number=3)
        with app.running():
            for minutes in (10, -10, 3):
                clock.off = timedelta(minutes=minutes)
                time.sleep(0.7)  # noqa: TID251
            assert _wait_until(lambda: all_sent(app))

    assert not {
        JobRescued,
        JobLate,
        LeasesLost,
        ClockSet,
    } & events(told)


def test_an_action_reads_the_time_of_the_database(postgres_url):
    seen = []
    script.send = lambda _parcel, ctx: seen.append(ctx.now)
    with node(postgres_url, WrongClock(days=-1)) as (app, _):
        send(app)
        app.drain()

        told = ask_time(app.store)
        assert abs(seen[0] - told) < timedelta(seconds=30)


def test_status_shows_how_wrong_the_clock_of_a_node_is(postgres_url):
    with node(postgres_url, WrongClock(seconds=40)) as (app, told), app.running():
        (shown,) = workers(app.desk)
        assert shown.clock_offset == pytest.approx(40, abs=0.5)
        assert shown.lives
        assert events(told) >= {ClockSet}

        with app.engine.begin() as connection:
            connection.execute(update(nodes).values(clock_offset=None))
        assert _wait_until(lambda: workers(app.desk)[0].clock_offset is not None)


def test_a_node_whose_clock_is_ahead_prunes_nothing_too_early(postgres_url):
    """Retention goes by the time of the database: what ended just now is not a day old."""
    with node(postgres_url, WrongClock(days=2)) as (app, _):
        send(app)
        app.drain()

        assert app.prune().is_empty


def test_an_injected_clock_is_used_as_it_is(postgres_url):
    clock = ManualClock()
    with post_office(postgres_url, clock=clock) as app:
        worker = app.worker()
        worker.register()
        run_service(worker, "claim")

        assert app.sources.clock is clock
        assert app.queries.nodes()[0]["beat_at"] == clock.now()
        assert workers(app.desk)[0].clock_offset is None


def _wait_until(holds, within=DEADLINE):
    give_up_at = time.monotonic() + within
    while time.monotonic() < give_up_at:
        if holds():
            return True
        time.sleep(0.05)  # noqa: TID251
    return False

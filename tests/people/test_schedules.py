"""Schedules by hand: which there are, paused, resumed, and run out of turn."""

import asyncio
from datetime import timedelta
from enum import StrEnum

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    NotFoundError,
    StatefulResource,
    StateJobs,
    WrongCallError,
    WrongValueError,
    acting_as,
    scheduled_action,
    state_column,
    transition,
)
from statejobs.events import ScheduleTicked
from tests.support.clock import NOON, manual_sources
from tests.support.clockwork import RAN, import_prices, make_app, report, send

HOUR = timedelta(hours=1)


@pytest.fixture
def app(database_url, clock):
    RAN.clear()
    with make_app(database_url, sources=manual_sources(clock)) as opened:
        opened.create_all()
        yield opened


def names(app):
    return [one.key for one in app.schedules()]


def prices(app):
    return app.schedule("prices.import").schedule


def instants(app, key="prices.import"):
    return [tick.at for tick in app.schedule(key).ticks]


def at_work(app, clock, **span):
    """Let time pass, and ticks with it."""
    clock.advance(**span)
    return app.drain()


# Which there are ---------------------------------------------------------------------------------


def test_they_are_listed_before_any_worker_was_started(app):
    listed = app.schedules()

    assert [(one.key, one.is_started, one.last) for one in listed] == [
        ("prices.import", False, None),
        ("report.daily", False, None),
    ]


def test_one_says_what_it_means_and_when_it_ticks_next(app):
    app.drain()

    shown = prices(app)

    assert (shown.cron, shown.timezone) == ("0 */6 * * *", "Europe/Prague")
    assert "Europe/Prague" in shown.words
    assert [(tick.at, tick.local) for tick in shown.next] == [
        (NOON + 5 * HOUR, "2030-01-01 18:00 CET"),
        (NOON + 11 * HOUR, "2030-01-02 00:00 CET"),
        (NOON + 17 * HOUR, "2030-01-02 06:00 CET"),
    ]
    assert shown.is_started


def test_the_last_ticks_say_how_they_went(app, clock):
    app.drain()
    at_work(app, clock, hours=5, seconds=20)

    (tick,) = app.schedule("prices.import").ticks

    assert (tick.at, tick.lag_seconds) == (NOON + 5 * HOUR, 20)
    assert (tick.enqueued, tick.skipped, tick.reason) == (1, 0, None)
    assert prices(app).last == tick
    assert RAN == [NOON + 5 * HOUR]


def test_a_page_has_twenty_ticks_at_most(app, clock):
    app.drain()
    for _ in range(22):
        at_work(app, clock, hours=6)

    assert len(instants(app)) == 20
    assert instants(app) == sorted(instants(app), reverse=True)


def test_one_that_this_code_does_not_declare_rests_and_is_named(database_url, app):
    app.drain()
    with make_app(database_url, tasks=[report]) as other:
        shown = prices(other)

        assert names(other) == ["prices.import", "report.daily"]
        assert (shown.is_declared, shown.cron, shown.next) == (False, None, ())
        assert other.schedule("report.daily").schedule.is_declared


def test_one_of_which_other_code_was_started_later_says_so(database_url, app, clock):
    @scheduled_action("prices.import", cron="0 0 * * *")
    def daily() -> None: ...

    app.drain()
    sources = manual_sources(clock)
    with make_app(database_url, tasks=[daily], sources=sources) as newer:
        newer.drain()

        assert not prices(newer).is_of_other_code
        assert (prices(app).is_of_other_code, prices(app).next) == (True, ())


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("prices.imprt", "did you mean 'prices.import'?"),
        ("mail.send", "'mail.send' has no schedule"),
    ],
)
def test_what_has_no_schedule_is_not_found(app, key, says):
    for ask in (
        app.schedule,
        app.pause_schedule,
        app.resume_schedule,
        app.run_schedule,
    ):
        with pytest.raises(NotFoundError, match="schedule") as refused:
            ask(key)
        assert says in str(refused.value)


def test_a_key_is_text(app):
    with pytest.raises(WrongValueError, match=r"pause_schedule\(key\) must be text"):
        app.pause_schedule(import_prices)


# Paused ------------------------------------------------------------------------------------------


def test_a_paused_one_does_not_tick_and_says_who_did_it(app, clock):
    app.drain()
    with acting_as("ada"):
        shown = app.pause_schedule("prices.import")

    at_work(app, clock, hours=12)

    assert (shown.paused_at, shown.paused_by, shown.next) == (NOON, "ada", ())
    assert instants(app) == []


def test_it_may_be_paused_before_any_worker_was_started(app, clock):
    app.pause_schedule("prices.import")

    app.drain()
    at_work(app, clock, hours=12)

    assert instants(app) == []
    assert prices(app).paused_at == NOON


def test_who_paused_it_first_is_kept(app, clock):
    with acting_as("ada"):
        app.pause_schedule("prices.import")
    clock.advance(hours=1)
    with acting_as("bob"):
        shown = app.pause_schedule("prices.import")

    assert (shown.paused_at, shown.paused_by) == (NOON, "ada")


def test_a_resumed_one_ticks_from_its_next_instant_on(app, clock):
    app.drain()
    app.pause_schedule("prices.import")
    at_work(app, clock, hours=12)

    shown = app.resume_schedule("prices.import")
    at_work(app, clock, seconds=1)

    assert (shown.paused_at, shown.paused_by) == (None, None)
    assert shown.next[0].at == NOON + 17 * HOUR
    assert instants(app) == []
    at_work(app, clock, hours=5)
    assert instants(app) == [NOON + 17 * HOUR]


def test_one_that_is_not_paused_keeps_what_is_due_when_it_is_resumed(app, clock):
    app.drain()
    clock.advance(hours=5)

    app.resume_schedule("prices.import")
    app.drain()

    assert instants(app) == [NOON + 5 * HOUR]


def test_a_pause_outlives_other_code(database_url, app, clock):
    @scheduled_action("prices.import", cron="0 * * * *")
    def hourly() -> None: ...

    app.drain()
    app.pause_schedule("prices.import")
    sources = manual_sources(clock)
    with make_app(database_url, tasks=[hourly], sources=sources) as newer:
        newer.drain()
        at_work(newer, clock, hours=3)

        assert prices(newer).paused_at == NOON
        assert instants(newer) == []


# Run out of turn ---------------------------------------------------------------------------------


def test_a_run_ticks_now_and_moves_no_other(app, clock):
    app.drain()
    clock.advance(hours=1)
    seen = []
    app.telemetry.subscribe(seen.append, ScheduleTicked)

    with acting_as("ada"):
        tick = app.run_schedule("prices.import")
    (job,) = app.queries.jobs()
    app.drain()

    assert (tick.at, tick.enqueued, tick.lag_seconds) == (NOON + HOUR, 1, 0)
    assert (job.actor, RAN) == ("ada", [NOON + HOUR])
    assert [(one.key, one.at) for one in seen] == [("prices.import", NOON + HOUR)]
    assert prices(app).next[0].at == NOON + 5 * HOUR


def test_a_paused_one_may_be_run(app):
    app.pause_schedule("prices.import")

    assert app.run_schedule("prices.import").enqueued == 1


def test_a_run_is_skipped_while_the_last_job_lives(app, clock):
    app.run_schedule("prices.import")
    clock.advance(minutes=1)

    tick = app.run_schedule("prices.import")

    assert (tick.enqueued, tick.skipped) == (0, 1)
    assert tick.reason == "the job of an earlier tick lives"
    assert len(app.queries.jobs()) == 1


def test_a_dry_run_changes_nothing(app, clock):
    would = app.dry_run_schedule("prices.import")

    assert (would.enqueued, would.reason) == (1, None)
    assert (app.queries.jobs(), instants(app)) == ([], [])

    app.run_schedule("prices.import")
    clock.advance(minutes=1)
    assert app.dry_run_schedule("prices.import").reason is not None
    assert instants(app) == [NOON]


def test_what_this_code_does_not_declare_it_cannot_run(database_url, app):
    app.drain()
    with make_app(database_url, tasks=[send]) as other:
        with pytest.raises(WrongCallError) as refused:
            other.run_schedule("prices.import")

        assert (
            str(refused.value)
            .splitlines()[0]
            .startswith("this code does not declare the schedule 'prices.import'")
        )
        assert other.pause_schedule("prices.import").paused_at is not None


def test_all_have_a_form_for_asyncio(app):
    async def handle():
        await app.pause_schedule_async("report.daily")
        await app.resume_schedule_async("report.daily")
        await app.run_schedule_async("report.daily")
        return await app.schedule_async("report.daily"), await app.schedules_async()

    page, listed = asyncio.run(handle())

    assert len(page.ticks) == 1
    assert page.schedule in listed


# Timeouts of states ------------------------------------------------------------------------------


class S(StrEnum):
    OPEN = "open"
    EXPIRED = "expired"


class Base(DeclarativeBase): ...


class Offer(StatefulResource, Base):
    __tablename__ = "scheduled_offers"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.OPEN)

    @transition(S.OPEN, S.EXPIRED, after=timedelta(hours=24))
    def expire(self) -> None: ...


@pytest.fixture
def offers(database_url, clock):
    domain = Domain("offers", resources=[Offer])
    sources = manual_sources(clock)
    with StateJobs(database_url, domains=[domain], sources=sources) as opened:
        opened.create_all()
        yield opened


def test_a_timeout_is_listed_and_says_when_it_fires(offers):
    (shown,) = offers.schedules()

    assert shown.is_declared
    assert (shown.key, shown.cron) == ("timeout:Offer.expire", None)
    assert shown.words == "24 h after a record came into open"


def test_a_paused_timeout_fires_no_more(offers, clock):
    with offers.session() as session:
        session.add(Offer(id=1))
        session.commit()
    offers.pause_schedule("timeout:Offer.expire")

    at_work(offers, clock, days=2)
    with offers.session() as session:
        assert session.get_one(Offer, 1).state is S.OPEN
    offers.resume_schedule("timeout:Offer.expire")
    at_work(offers, clock, minutes=1)

    with offers.session() as session:
        assert session.get_one(Offer, 1).state is S.EXPIRED


def test_a_timeout_has_no_ticks_to_run(offers):
    for ask in (offers.run_schedule, offers.dry_run_schedule):
        with pytest.raises(
            WrongCallError, match="is a timeout of states, which has no"
        ):
            ask("timeout:Offer.expire")

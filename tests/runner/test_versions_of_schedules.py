"""Old and new code that live at once: who started last has the schedule."""

import logging
from datetime import timedelta

import pytest

from statejobs import Domain, JobContext, scheduled_action
from tests.support.bells import schedule_of, ticks_of, tower, write_schedule
from tests.support.clock import NOON
from tests.support.services import run_service

TEN = timedelta(minutes=10)


def ringing(cron, **options):
    """A domain whose bell rings by *cron*."""

    @scheduled_action("bell.ring", cron=cron, **options)
    def ring(ctx: JobContext) -> None:
        """Nothing."""

    return Domain("tower", tasks=[ring])


@pytest.fixture
def old(database_url, clock):
    """The code that was there first."""
    with tower(
        database_url, clock=clock, domain=ringing("*/10 * * * *"), prefix="a"
    ) as app:
        yield app


@pytest.fixture
def new(old, database_url, clock):
    """The code that comes after it."""
    with tower(
        database_url, clock=clock, domain=ringing("*/15 * * * *"), prefix="b"
    ) as app:
        yield app


def test_who_starts_last_has_the_schedule_and_the_others_say_so_once(
    old, new, clock, caplog
):
    before, after = old.worker(), new.worker()
    run_service(before, "ticks")
    clock.advance(minutes=1)
    run_service(after, "ticks")
    assert schedule_of(new, "bell.ring").next_at == NOON + timedelta(minutes=15)

    with caplog.at_level(logging.WARNING, "statejobs.schedules"):
        for minute in range(2, 32):
            clock.advance(minutes=1)
            run_service(before, "ticks")
            run_service(after, "ticks")
            assert minute

    assert ticks_of(new, "bell.ring") == [
        (NOON + timedelta(minutes=15), 1, 0),
        (NOON + timedelta(minutes=30), 0, 1),
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "schedule bell.ring is left to other code, which has another timetable for it "
        "and was started later"
    ]


def test_the_look_of_old_code_is_not_woken_by_ticks_of_new_code(old, new, clock):
    before, after = old.worker(), new.worker()
    run_service(before, "ticks")
    run_service(after, "ticks")
    run_service(before, "ticks")
    clock.advance(minutes=15)
    (ticking,) = [one for one in before.services if one.name == "ticks"]

    run_service(before, "claim")

    assert not ticking.news.is_set()


def test_a_rollback_is_a_deploy(old, new, clock):
    old.drain()
    new.drain()
    clock.advance(minutes=1)

    run_service(old.worker(), "ticks")

    assert schedule_of(old, "bell.ring").next_at == NOON + TEN


def test_another_timetable_begins_from_now_and_never_repeats_a_tick(old, new, clock):
    old.drain()
    clock.advance(minutes=30)
    old.drain()
    write_schedule(old, "bell.ring", last_at=NOON + timedelta(hours=2))

    new.drain()

    row = schedule_of(new, "bell.ring")
    assert row.next_at == NOON + timedelta(hours=2, minutes=15)


def test_a_pause_survives_a_deploy(old, new, clock):
    old.drain()
    write_schedule(old, "bell.ring", paused_at=NOON, paused_by="ann")

    new.drain()
    clock.advance(minutes=15)
    new.drain()

    assert schedule_of(new, "bell.ring").paused_at == NOON
    assert ticks_of(new, "bell.ring") == []


def test_a_schedule_that_no_code_declares_rests(old, database_url, clock):
    old.drain()
    with tower(database_url, clock=clock, domain=Domain("tower"), prefix="c") as bare:
        clock.advance(minutes=10)
        bare.drain()

        assert schedule_of(bare, "bell.ring").next_at == NOON + TEN


@pytest.mark.parametrize(
    "other",
    [
        {"timezone": "Europe/Prague"},
        {"catch_up": "none"},
        {"overlap": "queue"},
    ],
)
def test_zone_and_policy_are_part_of_what_is_compared(other):
    def spec(domain):
        (task,) = domain.tasks
        return task.spec.timetable.spec_of(task.key)

    assert spec(ringing("@hourly", **other)) != spec(ringing("@hourly"))
    assert spec(ringing("@hourly")) == spec(ringing("@hourly"))

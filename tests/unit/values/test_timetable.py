"""Which ticks are due at a look, by policy; and that looks together miss and repeat none."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statejobs.values.cron import Cron
from statejobs.values.timetable import MISSED_AFTER, MOST_CAUGHT_UP, Timetable

START = datetime(2026, 3, 28, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POLICIES = ("none", "last", "all")


def timetable(expression="* * * * *", zone="UTC", **policy):
    cron = Cron.parse(expression, zone, where="cron")
    return Timetable(cron=cron, **policy)


def all_of(due):
    return [*due.left, *due.caught_up, *due.on_time]


@pytest.mark.parametrize(
    ("catch_up", "caught_up", "on_time"),
    [("none", 0, 1), ("last", 0, 1), ("all", 4, 1)],
)
def test_a_tick_on_time_is_not_made_up_for(catch_up, caught_up, on_time):
    due = timetable(catch_up=catch_up).due(START, START + 4 * MINUTE + MINUTE / 2)

    assert (len(due.caught_up), len(due.on_time)) == (caught_up, on_time)
    assert len(all_of(due)) == 5


def test_when_the_last_is_late_too_just_it_is_made_up_for():
    due = timetable("*/30 * * * *").due(START, START + 40 * MINUTE)

    assert due.left == (START,)
    assert due.caught_up == (START + 30 * MINUTE,)
    assert due.on_time == ()


def test_of_a_year_of_absence_the_last_hundred_are_made_up_for():
    now = START + timedelta(days=365)

    due = timetable(catch_up="all").due(START, now)

    assert len(due.caught_up) == MOST_CAUGHT_UP
    assert due.on_time == (now - MINUTE, now)
    assert due.left[-1] == due.caught_up[0] - MINUTE


def test_a_tick_that_was_promised_comes_though_the_zone_has_another_clock_by_now():
    due = timetable("0 9 * * *").due(START + 61 * MINUTE, START + 61 * MINUTE)

    assert due.on_time == (START + 61 * MINUTE,)


def test_a_tick_of_last_year_is_still_seen():
    due = timetable("0 0 1 1 *").due(
        datetime(2026, 1, 1, tzinfo=UTC), START + timedelta(days=200)
    )

    assert due.caught_up == (datetime(2026, 1, 1, tzinfo=UTC),)


@given(
    steps=st.lists(
        st.integers(min_value=1, max_value=60 * 60 * 8), min_size=1, max_size=40
    ),
    catch_up=st.sampled_from(POLICIES),
    expression=st.sampled_from(["* * * * *", "*/7 1-3 * * *", "30 2 * * *"]),
)
def test_looks_at_any_times_see_each_instant_once(steps, catch_up, expression):
    table = timetable(expression, "Europe/Prague", catch_up=catch_up)
    now, next_at, seen = START, table.cron.after(START), []

    for seconds in steps:
        now += timedelta(seconds=seconds)
        if next_at <= now:
            due = table.due(next_at, now)
            assert all(now - at <= MISSED_AFTER for at in due.on_time)
            assert all(now - at > MISSED_AFTER for at in due.caught_up + due.left)
            seen += all_of(due)
            next_at = table.cron.after(now)

    assert seen == list(table.cron.between(START, now))
    assert all(early < late for early, late in pairwise(seen))

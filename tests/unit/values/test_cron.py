"""When expressions run: cases that people know by heart, one by one."""

import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statejobs.errors import WrongValueError
from statejobs.values.cron import Cron, next_times

LAST_MINUTE = "%Y-%m-%d %H:%M"


def at(text):
    return datetime.strptime(text, LAST_MINUTE).replace(tzinfo=UTC)


def cron(expression, zone="UTC"):
    return Cron.parse(expression, zone, where="cron")


def runs(expression, zone, after, n):
    return [f"{t:{LAST_MINUTE}}" for t in next_times(expression, zone, at(after), n)]


def test_the_next_run_is_strictly_later():
    noon = cron("0 12 * * *")

    assert noon.after(at("2026-11-28 11:59")) == at("2026-11-28 12:00")
    assert noon.after(at("2026-11-28 12:00")) == at("2026-11-29 12:00")
    assert noon.after(at("2026-11-28 12:00") - timedelta(microseconds=1)) == at(
        "2026-11-28 12:00"
    )


def test_runs_between_two_times_are_later_than_the_first_and_up_to_the_second():
    found = cron("*/5 * * * *").between(at("2026-11-28 12:00"), at("2026-11-28 12:10"))

    assert next(found) == at("2026-11-28 12:05")
    assert list(found) == [at("2026-11-28 12:10")]


def test_runs_are_told_in_utc_whatever_zone_was_asked_in():
    prague = datetime(2026, 11, 28, 13, tzinfo=timezone(timedelta(hours=1)))

    run = cron("0 9 * * *", "Europe/Prague").after(prague)

    assert run == at("2026-11-29 08:00")
    assert run.tzinfo is UTC


def test_a_time_that_comes_twice_runs_once():
    assert runs("30 2 * * *", "Europe/Prague", "2026-10-24 12:00", 2) == [
        "2026-10-25 00:30",
        "2026-10-26 01:30",
    ]


def test_a_time_that_is_skipped_runs_after_the_gap():
    assert runs("30 2 * * *", "Europe/Prague", "2026-03-28 12:00", 2) == [
        "2026-03-29 01:00",
        "2026-03-30 00:30",
    ]


def test_several_times_in_one_gap_run_once():
    assert runs("0,15,30 2,3 * * *", "Europe/Prague", "2026-03-29 00:00", 3) == [
        "2026-03-29 01:00",
        "2026-03-29 01:15",
        "2026-03-29 01:30",
    ]


def test_an_interval_counts_the_minutes_that_there_are():
    spring = runs("*/30 2 * * *", "Europe/Prague", "2026-03-28 12:00", 2)
    autumn = runs("*/30 2 * * *", "Europe/Prague", "2026-10-24 12:00", 5)

    assert spring == ["2026-03-30 00:00", "2026-03-30 00:30"]
    assert autumn == [
        "2026-10-25 00:00",
        "2026-10-25 00:30",
        "2026-10-25 01:00",
        "2026-10-25 01:30",
        "2026-10-26 01:00",
    ]


def test_a_clock_that_changes_by_half_an_hour():
    assert runs("*/20 * * * *", "Australia/Lord_Howe", "2026-04-04 14:30", 5) == [
        "2026-04-04 14:40",  # 01:40
        "2026-04-04 15:10",  # 01:40 again: it went back from 02:00 to 01:30
        "2026-04-04 15:30",
        "2026-04-04 15:50",
        "2026-04-04 16:10",
    ]


def test_a_day_that_a_country_left_out_runs_at_its_end():
    assert runs("0 12 * * *", "Pacific/Apia", "2011-12-29 00:00", 3) == [
        "2011-12-29 22:00",
        "2011-12-30 10:00",  # 30 December was no day there: this is the 31st at 00:00
        "2011-12-30 22:00",
    ]


def test_midnight_that_is_skipped():
    assert runs("0 0 * * *", "America/Sao_Paulo", "2018-11-03 12:00", 2) == [
        "2018-11-04 03:00",  # 01:00
        "2018-11-05 02:00",
    ]


def test_a_day_begins_again_where_its_first_minute_is_taken_back():
    zone = "America/St_Johns"  # until 2011 from 00:01 to 23:01 of the day before

    assert runs("0 0 * * *", zone, "2010-11-07 00:00", 2) == [
        "2010-11-07 02:30",
        "2010-11-08 03:30",
    ]
    assert runs("*/1 0 7 11 *", zone, "2010-11-07 00:00", 3) == [
        "2010-11-07 02:30",
        "2010-11-07 03:30",
        "2010-11-07 03:31",
    ]


def test_either_of_day_and_weekday_is_enough():
    assert runs("0 0 13 * 5", "UTC", "2026-11-01 00:00", 4) == [
        "2026-11-06 00:00",
        "2026-11-13 00:00",
        "2026-11-20 00:00",
        "2026-11-27 00:00",
    ]
    assert runs("0 0 13 * 5", "UTC", "2026-12-05 00:00", 2) == [
        "2026-12-11 00:00",
        "2026-12-13 00:00",
    ]


def test_both_are_needed_when_one_begins_with_a_star():
    assert runs("0 0 */2 * 1", "UTC", "2026-11-01 00:00", 3) == [
        "2026-11-09 00:00",
        "2026-11-23 00:00",
        "2026-12-07 00:00",
    ]


@pytest.mark.parametrize("sunday", ["0", "7", "sun", "SUN"])
def test_sunday_has_two_numbers(sunday):
    assert runs(f"0 0 * * {sunday}", "UTC", "2026-11-28 00:00", 1) == [
        "2026-11-29 00:00"
    ]


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("0 0 L * *", "2026-11-30"),
        ("0 0 L 2 *", "2027-02-28"),
        ("0 0 15,L * *", "2026-11-15"),
        ("0 0 * * FRI#1", "2026-11-06"),
        ("0 0 * * 5#5", "2027-01-29"),
        ("0 0 * * L5", "2026-11-27"),
        ("0 0 * * L7", "2026-11-29"),
        ("0 0 * * 1#2,L5", "2026-11-09"),
        ("0 0 29 2 *", "2028-02-29"),
        ("0 0 31 * *", "2026-12-31"),
        ("0 0 30 2 1", "2027-02-01"),
        ("0 0 31 4,6 5", "2027-04-02"),
    ],
)
def test_days_of_a_month(expression, first):
    assert runs(expression, "UTC", "2026-11-01 12:00", 1) == [f"{first} 00:00"]


@pytest.mark.parametrize(
    ("nickname", "fields"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@Daily", "0 0 * * *"),
    ],
)
def test_a_nickname_stands_for_five_fields(nickname, fields):
    now = at("2026-11-28 13:00")

    assert next_times(nickname, "UTC", now, 3) == next_times(fields, "UTC", now, 3)


def test_29_february_is_found_over_a_century_that_has_none():
    assert runs("0 0 29 2 *", "UTC", "2096-03-01 00:00", 1) == ["2104-02-29 00:00"]


class Watched(tzinfo):
    """A zone that counts how often its clock is looked at."""

    def __init__(self, name):
        self.zone, self.looks = ZoneInfo(name), 0

    def fromutc(self, moment):
        self.looks += 1
        return self.zone.fromutc(moment.replace(tzinfo=self.zone)).replace(tzinfo=self)

    def utcoffset(self, moment):
        return moment.replace(tzinfo=self.zone).utcoffset()


def test_a_rare_run_is_found_without_a_look_at_each_day():
    rare = cron("0 12 29 2 *", "Europe/Prague")
    watched = replace(rare, clock=Watched("Europe/Prague"))

    assert watched.after(at("2096-03-01 00:00")) == at("2104-02-29 11:00")
    assert watched.clock.looks < 50


def test_there_is_no_run_where_28_years_have_none():
    saturday = cron("0 0 29 2 */6")  # or a Sunday

    assert saturday.after(at("2072-03-01 00:00")) == at("2076-02-29 00:00")
    assert cron("0 0 29 2 *").after(at("9998-01-01 00:00")) is None


@pytest.mark.parametrize("expression", ["0 0 29 2 *", "* * * * *", "*/7 3 * * L1"])
@given(now=st.datetimes(timezones=st.just(UTC)))
def test_any_time_can_be_asked_about(expression, now):
    found = cron(expression, "Europe/Prague").after(now)

    assert found is None or found > now


def test_a_run_is_the_first_later_than_the_time_before_it():
    after = at("2026-10-24 22:00")
    prague = cron("*/10 1-3 * * *", "Europe/Prague")
    found = list(prague.between(after, after + timedelta(days=3)))

    assert [prague.after(run) for run in found[:-1]] == found[1:]


def test_it_is_a_value():
    one, same = cron("0 3 * * *", "Europe/Prague"), cron("0  3 * * * ", "Europe/Prague")

    assert one == same
    assert {one, same} == {one}
    assert one != cron("0 3 * * *")
    assert repr(one) == "Cron(expression='0 3 * * *', zone='Europe/Prague')"
    assert pickle.loads(pickle.dumps(one)).after(at("2026-11-28 13:00")) == at(
        "2026-11-29 02:00"
    )


ASKED = {
    "after": lambda now: cron("* * * * *").after(now),
    "from": lambda now: cron("* * * * *").between(now, at("2026-11-28 13:00")),
    "until": lambda now: cron("* * * * *").between(at("2026-11-28 13:00"), now),
    "next": lambda now: next_times("* * * * *", "UTC", now, 1),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_naive_time_is_refused(ask):
    with pytest.raises(WrongValueError, match=r"aware time, not 2026-11-28 13:00:00"):
        ask(datetime(2026, 11, 28, 13))  # noqa: DTZ001
    with pytest.raises(WrongValueError, match="must be a datetime, not 'now'"):
        ask("now")


def test_so_many_times_as_asked_for():
    now = at("2026-11-28 13:00")

    assert next_times("* * * * *", "UTC", now, 0) == []
    assert len(next_times("* * * * *", "UTC", now, 100)) == 100
    with pytest.raises(WrongValueError, match=r"n=….* whole number from 0 on, not -1"):
        next_times("* * * * *", "UTC", now, -1)

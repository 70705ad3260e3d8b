"""Which expressions are refused, and with what words; what those that are taken mean."""

import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statejobs.errors import WrongValueError
from statejobs.values import cron as cron_module
from statejobs.values.cron import Cron
from statejobs.values.crontab import zones
from tests.support.wall_clocks import Meaning

NOW = datetime(2026, 11, 28, 13, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _now(monkeypatch):
    monkeypatch.setattr(cron_module, "utcnow", lambda: NOW)


def refusal(expression, zone="UTC"):
    with pytest.raises(WrongValueError) as refused:
        Cron.parse(expression, zone, where="Trigger 'order.expire': cron")
    return refused.value


def test_a_refusal_says_what_where_why_and_what_was_meant():
    assert str(refusal("*/10 * * * * *", "Europe/Prague")) == (
        "Trigger 'order.expire': cron: '*/10 * * * * *' has six fields: minute, hour, day of "
        "month, month and weekday are all that there are; did you mean '*/10 * * * *', next at "
        "2026-11-28 14:10, 2026-11-28 14:20, 2026-11-28 14:30 in Europe/Prague?"
    )


MEANT = {
    "*/10 * * * * *": "*/10 * * * *",
    "0 */10 * * * *": "*/10 * * * *",
    "0 0 12 * * ? 2026": "0 12 * * *",
    "0 0 12 ? * MON-FRI": "0 12 * * MON-FRI",
    "0 22-2 * * *": "0 22-23,0-2 * * *",
    "0 23-1 * * *": "0 23,0-1 * * *",
    "0 20-4/2 * * *": "0 20,22,0,2,4 * * *",
    "0 0 * * fri-mon": "0 0 * * 5-6,0-1",
    "0 0 * * sat-sun": "0 0 * * 6,0",
    "0 0 * nov-feb *": "0 0 * 11-12,1-2 *",
    "5-5 * * * *": "5 * * * *",
    "0 0 * * sun-sun": "0 0 * * sun",
    "59/15 * * * *": "59 * * * *",
    "*/60 * * * *": "0 * * * *",
    "0 0 * * */7": "0 0 * * 0",
    "60 * * * *": "0 * * * *",
    "0 24 * * *": "0 0 * * *",
    "0 0 * * monday": "0 0 * * mon",
    "0 0 * janury *": "0 0 * jan *",
    "0 0 * * 5L": "0 0 * * L5",
    "0 0 1 * 5#1": "0 0 * * 5#1",
    "0 0 */2 * L5": "0 0 * * L5",
    "0 0 ? * *": "0 0 * * *",
    "1,2, * * * *": "1,2 * * * *",
    "@every 5m": "*/5 * * * *",
    "@every 1 minute": "* * * * *",
    "@every 2h": "0 */2 * * *",
    "0 0 * * *\n": "0 0 * * *",
    "0 0\t* * *": "0 0 * * *",
}


@pytest.mark.parametrize("expression", MEANT)
def test_what_is_nearly_right_is_told_with_its_next_three_times(expression):
    fix = refusal(expression).fix

    assert fix.startswith(f"did you mean {MEANT[expression]!r}, next at ")
    assert fix.count(", ") - MEANT[expression].count(", ") == 3
    Cron.parse(MEANT[expression], where="cron")


REFUSED = {
    "": "'' has no fields",
    "* * *": "'* * *' has three fields",
    "0 0 31 2 * *": "all that there are; say '0 3 * * *' for 03:00 every day",
    "0 0 31 2-2 *": "its ends are one value; say '0 3 * * *' for 03:00 every day",
    "1 2 3 4 5 6 7 8": "'1 2 3 4 5 6 7 8' has 8 fields",
    f"{'1,' * 100}2 * * * *": "an expression of 209 characters: none needs more than 200",
    "\uff10 0 * * *": "has a character that is neither printed nor ASCII",
    "R * * * *": "has 'R' as its minute: 'R' is random",
    "r(0-10) * * * *": "'R' is random",
    "0 R/2 * * *": "has 'R/2' as its hour: 'R' is random",
    "H 0 * * *": "has 'H' as its minute: 'H' is another number for each name",
    "0 0 15W * *": "has '15W' as its day of month: 'W' moves a day",
    "0 0 LW * *": "'W' moves a day",
    "0 0 L-3 * *": "has 'L-3' as its day of month",
    "0 0 1-L * *": "has '1-L' as its day of month",
    "0 0 * * 1,L1": "counts some of its weekdays and not others",
    "0 0 * * 1-5#1": "has '1-5#1' as its weekday",
    "0 0 * * 1#6": "no such week: a month has its weekday at most 5 times",
    "0 0 * * mon#0": "say 'mon#1' for the first, 'L1' for the last",
    "0 0 * * L8": "has 'L8' as its weekday: it goes from 0 to 7",
    "*/90 * * * *": "this one reaches no second value; say a step of at most 59",
    "10-20/15 * * * *": "counted anew from 10, and this one reaches no second value",
    "*/0 * * * *": "reaches no second value",
    "0 0 0 * *": "has '0' as its day of month: it goes from 1 to 31",
    "0 0 * 13 *": "has '13' as its month: it goes from 1 to 12",
    "0 0 * * 8": "has '8' as its weekday: it goes from 0 to 7",
    "x * * * *": "has 'x' as its minute: 'x' is no minute; say a number from 0 to 59",
    "0 0 * * xyz": "'xyz' is no weekday; known: fri, mon,",
    "*,5 * * * *": "has '*,5' as its minute: '*' means all of them already",
    "-1 * * * *": "has '-1' as its minute",
    "*-5 * * * *": "has '*-5' as its minute",
    "1--100000000 * * * *": "as its minute",
    "1-100000000 * * * *": "as its minute: it goes from 0 to 59",
    "@reboot": "names no time: a schedule belongs to all workers",
    "@every 90s": "does not say from when on it counts",
    "@every 7m": "say '*/5 * * * *' for every five minutes",
    "@dayly": "did you mean '@daily'?",
    "0 0 31 2 *": "'0 0 31 2 *' never runs: no day of 28 years fits it",
    "0 0 31 4,6 *": "never runs",
    "0 0 30 2 */1": "never runs",
}


@pytest.mark.parametrize("expression", REFUSED, ids=[*map(ascii, REFUSED)])
def test_what_is_none_of_ours_is_refused(expression):
    assert REFUSED[expression] in str(refusal(expression))


def test_what_only_a_skipped_hour_would_run_never_runs():
    expression = "*/20 2 * 3 L0"  # the night in which the clock goes forward

    assert "never runs" in str(refusal(expression, "Europe/Prague"))
    assert Cron.parse(expression, where="cron").after(NOW)


@pytest.mark.parametrize("expression", [None, 5, b"* * * * *", ["*"] * 5])
def test_what_is_no_text_is_refused(expression):
    assert "cron must be text, not " in str(refusal(expression))


ZONES = {
    "europe/prague": "did you mean 'Europe/Prague'?",
    "Europe/Pragu": "did you mean 'Europe/Prague'?",
    "prague": "did you mean 'Europe/Prague'?",
    "New York": "did you mean 'America/New_York'?",
    "utc": "did you mean 'UTC'?",
    "../etc/passwd": "say 'UTC' or 'Europe/Prague'",
    "Europe": "no time zone 'Europe'",
    "localtime": "no time zone 'localtime'",
    "right/UTC": "no time zone 'right/UTC'",
    "+02:00": "say 'UTC' or 'Europe/Prague'",
    "": "no time zone ''",
    "a\0b": "no time zone",
    "\ud800": "no time zone",
    "x" * 100_000: "no time zone 'xxx",
}


@pytest.mark.parametrize("zone", ZONES, ids=[ascii(zone)[:20] for zone in ZONES])
def test_a_zone_that_there_is_not_is_refused(zone):
    told = str(refusal("0 3 * * *", zone))

    assert ZONES[zone] in told
    assert len(told) < 300


@pytest.mark.parametrize("zone", [None, 2, UTC])
def test_a_zone_that_is_no_name_is_refused(zone):
    told = str(refusal("0 3 * * *", zone))

    assert "its time zone must be text" in told
    assert "say 'Europe/Prague'" in told


def test_a_machine_without_zones_has_utc(monkeypatch):
    monkeypatch.setattr(zones.zoneinfo, "TZPATH", ())
    monkeypatch.setattr(zones.zoneinfo, "available_timezones", set)
    monkeypatch.setitem(sys.modules, "tzdata", None)
    zones.zoneinfo.ZoneInfo.clear_cache()
    monkeypatch.setattr(zones.zoneinfo, "ZoneInfo", nothing_found)

    assert Cron.parse("0 3 * * *", where="cron").after(NOW)
    assert "this machine has no data of time zones. Install the package tzdata" in str(
        refusal("0 3 * * *", "Europe/Prague")
    )


def nothing_found(name):
    raise zones.zoneinfo.ZoneInfoNotFoundError(name)


WORDS = {
    "* * * * *": "every minute",
    "*/10 * * * *": "every 10 minutes",
    "*/7 * * * *": "every hour at every 7th minute",
    "*/5 9-17 * * *": "every 5 minutes of hour 9 to 17",
    "@hourly": "every hour",
    "30 * * * *": "every hour at minute 30",
    "0 */6 * * *": "every 6 hours",
    "5,35 */2 * * *": "every 2 hours at minute 5 and 35",
    "15 */5 * * *": "at minute 15 of every 5th hour every day",
    "0 3 * * *": "at 03:00 every day",
    "0 9,17 * * mon-fri": "at 09:00 and 17:00 on Monday to Friday",
    "@weekly": "at 00:00 on Sunday",
    "@yearly": "at 00:00 on day 1 of the month in January",
    "0 0 1,15,L 3-5 *": "at 00:00 on day 1, 15 and the last day of the month in March to May",
    "0 0 13 * 5": "at 00:00 on day 13 of the month and on Friday",
    "0 0 */2 * 1": "at 00:00 on every 2nd day of the month if that is Monday",
    "0 0 * * fri#1,L0": "at 00:00 on the first Friday and last Sunday of the month",
    "10/20 4 * * *": "at every 20th minute from 10 of hour 4 every day",
    "0-30/10,45 8 * * *": "at every 10th minute from 0 to 30 and minute 45 of hour 8 every day",
    "0,10,20,30,40,50 3,4 * * 7": "at minute 0, 10, 20, 30, 40 and 50 of hour 3 and 4 on Sunday",
    "* * * */2 *": "every minute in every 2nd month",
    "* * * * 1/2": "every minute on every 2nd weekday from Monday",
    "*/30 * 11/10 * *": "every 30 minutes on every 10th day from 11 of the month",
}


@pytest.mark.parametrize("expression", WORDS)
def test_an_expression_is_told_in_words(expression):
    cron = Cron.parse(expression, "Europe/Prague", where="cron")

    assert cron.in_words() == f"{WORDS[expression]} (Europe/Prague)"


def fields(low, high, names=()):
    """Draw a field in any shape that we take."""
    value = st.integers(low, high).map(lambda n: names[n - low] if names else str(n))
    ends = st.lists(st.integers(low, high), min_size=2, max_size=2, unique=True)
    ranges = ends.map(sorted).map("{0[0]}-{0[1]}".format)
    steps = st.integers(2, high - low).map("*/{}".format)
    parts = st.tuples(ends.map(sorted), st.integers(1, 9)).filter(
        lambda part: part[0][0] + part[1] <= part[0][1]
    )
    stepped = parts.map(lambda part: f"{part[0][0]}-{part[0][1]}/{part[1]}")
    items = st.lists(st.one_of(value, ranges, steps, stepped), min_size=1, max_size=3)
    return st.just("*") | items.map(",".join)


COUNTED = st.lists(
    st.tuples(st.sampled_from(["mon", "5", "7", "0"]), st.integers(1, 5)).map(
        "{0[0]}#{0[1]}".format
    )
    | st.integers(0, 7).map("L{}".format),
    min_size=1,
    max_size=3,
).map(",".join)
MONTHS = [
    "jan",
    "FEB",
    "mar",
    "apr",
    "may",
    "Jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
]
PLAIN = st.tuples(
    fields(0, 59),
    fields(0, 23),
    fields(1, 31) | st.sampled_from(["L", "1,L", "l,15-20"]),
    fields(1, 12, MONTHS),
    fields(0, 6),
)
WITH_COUNTED = st.tuples(
    fields(0, 59), fields(0, 23), st.just("*"), fields(1, 12), COUNTED
)
TAKEN = (PLAIN | WITH_COUNTED).map(" ".join)


@given(expression=TAKEN, day=st.dates(datetime(2000, 1, 1).date()))  # noqa: DTZ001
def test_fields_are_read_as_by_another_reader(expression, day):
    meaning = Meaning(expression)
    try:
        cron = Cron.parse(expression, where="cron")
    except WrongValueError as refused:
        assert "never runs" in str(refused)  # noqa: PT017
        return

    assert cron.fields.days.has(day) == meaning.fits(day)
    assert cron.fields.is_fixed == meaning.is_fixed
    times = {
        60 * hour + past for hour in cron.fields.hours for past in cron.fields.minutes
    }
    assert {at for at, runs in enumerate(meaning.whole_day) if runs} == times
    assert cron.in_words()


@given(
    expression=st.text(
        alphabet="0123456789*/-,#LlRrHhWw?@ monfrijaec\t\xa0", max_size=40
    )
)
def test_whatever_is_written_is_taken_or_refused(expression):
    try:
        cron = Cron.parse(expression, where="cron")
    except WrongValueError as refused:
        assert str(refused).startswith("cron")  # noqa: PT017
    else:
        assert cron.after(NOW)
        assert cron.in_words()

"""The walk through the calendar against every minute of some years, and against another library."""

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from random import Random
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from statejobs.values.cron import Cron
from tests.support.size import size
from tests.support.wall_clocks import MINUTE, Meaning, WallClock

EXPRESSIONS = """
* 0-3 * * *
*/7 * * * *
0 * * * *
30 * * * *
5,35 */2 * * *
*/20 2 * * *
0 0 * * *
1 0 * * *
30 1 * * *
30 2 * * *
15 2,14 * * *
45 0-3 * * *
5-59/9 0-4 * * *
0 3 * * *
0 0 * * 0
0 12 * * 1-5
0 0 * * 5-7
0 0 * * */2
0 0 * * 1-7/2
0 0 * * 0-7/3
59 23 * * sat
0 0 1 * *
0 0 31 * *
0 0 29 2 *
0 6 1,15 * 5
0 0 30 2 1
0 9 * 3-5 *
0 0 */2 * 1
0 0 L * *
30 2 15,L * *
0 0 * * fri#1
30 2 * * L0
""".strip().splitlines()

CHANGED = {
    "Australia/Lord_Howe": 2024,  # by half an hour
    "Africa/Casablanca": 2024,  # for Ramadan
    "Europe/Dublin": 2024,  # winter is the exception
    "Pacific/Apia": 2011,  # 30 December was left out
    "America/Sao_Paulo": 2018,  # at midnight
    "Africa/Cairo": 2024,  # at midnight
    "Asia/Gaza": 2011,  # at 00:01, and four times
    "America/St_Johns": 2010,  # at 00:01
}
"""Zone → a year in which its clock was changed as few are."""

OTHERS = [
    "UTC",
    "Africa/El_Aaiun",
    "America/Asuncion",
    "America/Caracas",
    "America/Godthab",
    "America/Havana",
    "America/New_York",
    "America/Santiago",
    "America/Scoresbysund",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Colombo",
    "Asia/Damascus",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Asia/Ulaanbaatar",
    "Atlantic/Azores",
    "Australia/Adelaide",
    "Europe/Istanbul",
    "Europe/London",
    "Europe/Prague",
    "Europe/Samara",
    "Europe/Simferopol",
    "Europe/Volgograd",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Fakaofo",
    "Pacific/Fiji",
    "Pacific/Tongatapu",
]


def drawn(rng):
    """Return an expression drawn by chance."""
    minute = rng.choice([one, pair, step])(rng, 0, 59)
    hour = rng.choice([every, one, pair, span, step])(rng, 0, 23)
    day = rng.choice([every, every, every, one, pair, span, step])(rng, 1, 28)
    month = rng.choice([every, every, every, one, pair, span])(rng, 1, 12)
    weekday = rng.choice([every, every, every, one, pair, span, step])(rng, 0, 6)
    return f"{minute} {hour} {day} {month} {weekday}"


def every(rng, low, high):
    return "*"


def one(rng, low, high):
    return str(rng.randint(low, high))


def pair(rng, low, high):
    return "{},{}".format(*sorted(rng.sample(range(low, high + 1), 2)))


def span(rng, low, high):
    return "{}-{}".format(*sorted(rng.sample(range(low, high + 1), 2)))


def step(rng, low, high):
    return f"*/{rng.randint(2, (high - low) // 2)}"


def differences(zone, years, expressions):
    """Return where the walk differs from what the clock shows, and in how many runs it does not."""
    found, same = [], 0
    for year in years:
        clock = WallClock(zone, year)
        for expression in expressions:
            theirs = clock.runs(Meaning(expression))
            number, ours = walked(expression, zone, clock.begin(), len(theirs))
            if ours == theirs and number == theirs.count(1):
                same += number
            else:
                pairs = enumerate(zip(ours, theirs, strict=True))
                wrong = [at for at, (our, their) in pairs if our != their]
                found.append((zone, year, expression, number, wrong[:5]))
    return found, same


def walked(expression, zone, begin, minutes):
    """Return in how many minutes the walk runs, and a byte for each."""
    cron = Cron.parse(expression, zone, where="cron")
    found, number = bytearray(minutes), 0
    for run in cron.between(begin - MINUTE, begin + (minutes - 1) * MINUTE):
        found[(run - begin) // MINUTE] = 1
        number += 1
    return number, found


def years_of(zone):
    """Return ten years for a full run, and the one that is not among them; else that."""
    changed = CHANGED.get(zone, 2019)
    return size([changed], {*range(2010, 2020), changed})


@pytest.mark.parametrize("zone", size([*CHANGED], [*CHANGED, *OTHERS]))
@pytest.mark.timeout(size(300, 7200))
def test_the_walk_runs_in_the_minutes_that_fit(zone):
    rng = Random(13)
    more = ["* * * * *", *(drawn(rng) for _ in range(59 - len(EXPRESSIONS)))]
    expressions = [*EXPRESSIONS, *size([], more)]

    found, same = differences(zone, years_of(zone), expressions)

    print(f"{zone}: {same} runs")  # noqa: T201
    assert not found
    assert same > 100_000


def test_the_walk_runs_what_chance_draws_in_the_minutes_that_fit(seed):
    rng = Random(seed)
    zone, year = rng.choice([*CHANGED, *OTHERS]), rng.randint(2008, 2030)

    found, _ = differences(zone, [year], [drawn(rng) for _ in range(size(30, 300))])

    assert not found


AROUND = {
    "UTC": "2024-02-01",
    "Europe/Prague": "2026-03-20",
    "America/New_York": "2026-10-20",
    "Africa/Casablanca": "2024-03-01",
    "Pacific/Apia": "2011-12-20",
    "America/Sao_Paulo": "2018-10-20",
    "Africa/Cairo": "2024-04-10",
}
"""Zone → the first of sixty days, in which its clock is changed."""


@pytest.mark.parametrize("zone", AROUND)
def test_another_library_agrees(zone):
    first = AROUND[zone]
    lost = {each: missing(each, zone, first, days=60) for each in EXPRESSIONS}

    assert not any(lost.values()), lost


@pytest.mark.parametrize("expression", ["30 * * * *", "5,35 */2 * * *", "*/20 2 * * *"])
def test_another_library_loses_runs_where_a_clock_is_changed_by_half_an_hour(
    expression,
):
    """It goes on by the minute that the clock showed before the change.

    Where a day begins twice (`America/St_Johns` in 2010) it never goes on, so it is not asked.
    """
    zone = "Australia/Lord_Howe"
    clock = WallClock(zone, 2024)

    lost = missing(expression, zone, "2024-03-20", days=30)

    minutes = enumerate(clock.runs(Meaning(expression)))
    right = {clock.begin() + at * MINUTE for at, runs in minutes if runs}
    assert lost
    assert set(lost) <= right


def missing(expression, zone, first, *, days):
    """Return our runs that the other library has not; it has no others."""
    after = datetime.fromisoformat(first).replace(tzinfo=UTC)
    until = after + timedelta(days=days)
    ours = list(Cron.parse(expression, zone, where="cron").between(after, until))
    in_their_words = expression.replace("L0", "0L")  # Sunday, the last one
    runs = CronSim(in_their_words, after.astimezone(ZoneInfo(zone)))
    theirs = [
        *takewhile(lambda run: run <= until, (run.astimezone(UTC) for run in runs))
    ]
    assert set(theirs) <= set(ours)
    return sorted(set(ours) - set(theirs))

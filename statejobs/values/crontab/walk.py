"""The walk through the calendar: when the clock of a zone shows what an expression names.

A clock that is changed is met as by Debian's cron. An expression whose minute and hour both name
times runs once for each: at the first of two when the clock goes back, at the end of the gap when
it goes forward over it. One that counts on, such as `*/20`, runs by the minutes that there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta, tzinfo

from statejobs.values.clock import FIRST, LAST
from statejobs.values.crontab.fields import Fields
from statejobs.values.crontab.zones import EPOCH, Stretch, stretches

_MINUTE = 60
_DAY = 86_400
_REACH = 3 * _DAY
"""More than any clock on a wall is away from UTC, and than any was ever changed by."""
_SECOND = timedelta(seconds=1)


def runs(
    fields: Fields, zone: tzinfo, after: datetime, until: datetime
) -> Iterator[datetime]:
    """Yield when *fields* run, in UTC: later than *after*, and not later than *until*."""
    first = (max(after, FIRST) - EPOCH) // _SECOND + 1
    last = (min(until, LAST) - EPOCH) // _SECOND
    fresh = first
    for since in _windows(fields, first - 2 * _DAY, last):
        for stretch in stretches(zone, since, since + _DAY):
            if fields.is_fixed and stretch.before > stretch.offset:
                # the clock went back: until then it shows what it has shown
                repeats = stretch.before - stretch.offset
                fresh = max(fresh, stretch.since + repeats)
            for run in _runs_in(fields, stretch, fresh):
                if run > last:
                    return
                if run >= first:
                    yield EPOCH + run * _SECOND


def _windows(fields: Fields, since: int, last: int) -> Iterator[int]:
    """Yield where days of UTC begin that may have a run; none but these is looked at."""
    until = _date(last + _REACH)
    while since <= last:
        day = next(fields.days.between(_date(since - _REACH), until), None)
        if day is None:
            return
        midnight = (day - EPOCH.date()).days * _DAY
        since = max(since, midnight - _REACH)
        yield since
        since += _DAY


def _runs_in(fields: Fields, stretch: Stretch, fresh: int) -> Iterator[int]:
    """Yield the seconds of runs in *stretch*; none before *fresh*, but the one after a gap."""
    began, offset = stretch.since, stretch.offset
    if fields.is_fixed and stretch.before < offset:
        gap = _walls(fields, began + stretch.before, began + offset)
        if next(gap, None) is not None:
            yield began
            began += 1
    for wall in _walls(fields, max(began, fresh) + offset, stretch.until + offset):
        yield wall - offset


def _walls(fields: Fields, since: int, until: int) -> Iterator[int]:
    """Yield what the clock shows at runs, as if it were UTC, from *since* until before *until*."""
    for day in fields.days.between(_date(since), _date(until - 1)):
        midnight = (day - EPOCH.date()).days * _DAY
        for hour in fields.hours:
            start = midnight + hour * 60 * _MINUTE
            if start + 60 * _MINUTE <= since:
                continue
            for minute in fields.minutes:
                wall = start + minute * _MINUTE
                if since <= wall < until:
                    yield wall


def _date(seconds: int) -> date:
    return EPOCH.date() + timedelta(days=seconds // _DAY)

"""What cron expressions mean, by brute force: the clock of a zone, looked at in each minute of UTC.

Nothing here is taken from the package: neither how a field is read, nor where a clock is changed.
"""

from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from itertools import groupby, pairwise
from zoneinfo import ZoneInfo

DAY = 1440
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NAMES = {
    3: [
        "jan",
        "feb",
        "mar",
        "apr",
        "may",
        "jun",
        "jul",
        "aug",
        "sep",
        "oct",
        "nov",
        "dec",
    ],
    4: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


class WallClock:
    """The clock of a zone in one year, and two days before and after it."""

    def __init__(self, zone, year):
        self.zone, self.year = zone, year
        self.first = (datetime(year, 1, 1, tzinfo=UTC) - EPOCH) // MINUTE
        self.last = (datetime(year + 1, 1, 1, tzinfo=UTC) - EPOCH) // MINUTE

    @cached_property
    def parts(self):
        """Parts of time whose minutes follow each other on the wall: UTC and wall, from and to."""
        zone, found = ZoneInfo(self.zone), []
        for _, minutes in groupby(
            range(self.first - 2 * DAY, self.last + 2 * DAY),
            key=lambda minute: datetime.fromtimestamp(minute * 60, zone).utcoffset(),
        ):
            utc = list(minutes)
            shown = datetime.fromtimestamp(utc[0] * 60, zone).replace(tzinfo=UTC)
            wall = (shown - EPOCH) // MINUTE
            found.append((utc[0], utc[-1] + 1, wall, wall + len(utc)))
        return found

    def runs(self, meaning):
        """Return a byte for each minute of the year in UTC: whether an expression runs."""
        before = self.parts[0][0]
        hits = bytearray().join(meaning.on_wall(*part[2:]) for part in self.parts)
        for (_, _, _, shown), (changed, _, shows, _) in pairwise(self.parts):
            if not meaning.is_fixed:
                break
            at = changed - before
            if shows > shown and any(meaning.on_wall(shown, shows)):
                hits[at] = 1  # minutes that never were
            if shows < shown:
                hits[at : at + shown - shows] = bytes(shown - shows)  # shown before
        return hits[self.first - before : self.last - before]

    def begin(self):
        """Return when the first minute of the year is."""
        return EPOCH + self.first * MINUTE


@cache
class Meaning:
    """What an expression means, read by another reader than ours."""

    def __init__(self, expression):
        minute, hour, day, month, self.weekday = expression.lower().split()
        self.is_fixed = minute[0] != "*" and hour[0] != "*"
        self.is_both = day[0] == "*" or self.weekday[0] == "*"
        self.has_last = "l" in day.split(",")
        days = ",".join(item for item in day.split(",") if item != "l")
        self.days = values(2, days) if days else set()
        self.months = values(3, month)
        hours, minutes = values(1, hour), values(0, minute)
        times = {hour * 60 + minute for hour in hours for minute in minutes}
        self.whole_day = bytes(time in times for time in range(DAY))
        self.known = {}

    def on_wall(self, first, last):
        """Return a byte for each minute that a wall shows: whether it is one of them."""
        days = range(first // DAY, (last - 1) // DAY + 1)
        shown = b"".join(
            self.whole_day if self.has(day) else bytes(DAY) for day in days
        )
        begin = first - days[0] * DAY
        return shown[begin : begin + last - first]

    def has(self, day):
        if day not in self.known:
            self.known[day] = self.fits(date(1970, 1, 1) + timedelta(days=day))
        return self.known[day]

    def fits(self, day):
        is_last = (day + timedelta(days=1)).day == 1
        fits_day = day.day in self.days or (self.has_last and is_last)
        fits_weekday = any(
            self.fits_weekday(day, one) for one in self.weekday.split(",")
        )
        both = fits_day and fits_weekday
        either = fits_day or fits_weekday
        return day.month in self.months and (both if self.is_both else either)

    def fits_weekday(self, day, item):
        number = day.isoweekday() % 7
        if "#" in item:
            name, count = item.split("#")
            return number in values(4, name) and (day.day - 1) // 7 + 1 == int(count)
        if item[0] == "l":
            is_last = (day + timedelta(days=7)).month != day.month
            return number in values(4, item[1:]) and is_last
        return number in values(4, item)


def values(place, text):
    """Return the values of a field, or of one of its items."""
    found = set()
    least, most = BOUNDS[place]
    for item in text.split(","):
        bounds, _, step = item.partition("/")
        low, _, high = bounds.partition("-")
        first = least if low == "*" else number(place, low)
        last = number(place, high) if high else most if low == "*" or step else first
        found |= set(range(first, last + 1, int(step or 1)))
    return {value % 7 for value in found} if place == 4 else found


def number(place, text):
    return int(text) if text.isdecimal() else NAMES[place].index(text) + (place == 3)

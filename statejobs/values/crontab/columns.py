"""The five fields of a cron expression: what may stand in each."""

from __future__ import annotations

from dataclasses import dataclass

MONTHS = (
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
)
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One of the five fields."""

    name: str
    low: int
    high: int
    """The last value; of weekdays 6, though 7 is Sunday as well."""
    names: tuple[str, ...] = ()
    """Names of the values, from *low* on."""

    @property
    def size(self) -> int:
        """Return how many values there are."""
        return self.high - self.low + 1

    @property
    def most(self) -> int:
        """Return the largest number that may be written."""
        return 7 if self is WEEKDAY else self.high

    def value(self, text: str) -> int | None:
        """Return the value of a number or a name; None when it is neither."""
        if text.isdecimal():
            return int(text)
        name = text.lower()
        return self.names.index(name) + self.low if name in self.names else None


MINUTE = Column(name="minute", low=0, high=59)
HOUR = Column(name="hour", low=0, high=23)
DAY = Column(name="day of month", low=1, high=31)
MONTH = Column(name="month", low=1, high=12, names=MONTHS)
WEEKDAY = Column(name="weekday", low=0, high=6, names=WEEKDAYS)

COLUMNS = (MINUTE, HOUR, DAY, MONTH, WEEKDAY)

"""What an expression names: minutes and hours of a day, and days. Croniter reads it."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from statejobs.values.crontab.columns import COLUMNS, DAY, Column
from statejobs.values.crontab.nicknames import written_out

_DAY = timedelta(days=1)
_LAST = "l"


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """Which days of the calendar an expression names."""

    days: frozenset[int]
    has_last: bool
    """Whether the last day of a month is one of *days*."""
    months: frozenset[int]
    weekdays: frozenset[int]
    counted: frozenset[tuple[int, int | str]]
    """Weekdays with their number in the month, or `"l"` for the last; then *weekdays* is empty."""
    needs_both: bool
    """Whether day of month and weekday must both fit; else either does."""

    def has(self, day: date) -> bool:
        """Return whether *day* is one of them."""
        if day.month not in self.months:
            return False
        fits_day = day.day in self.days or (self.has_last and _is_last(day))
        if self.needs_both:
            return fits_day and self._fits_weekday(day)
        return fits_day or self._fits_weekday(day)

    def between(self, first: date, last: date) -> Iterator[date]:
        """Yield those from *first* to *last*, both among them."""
        day = first
        while day <= last:
            if day.month not in self.months:
                day = _next_month(day)
                continue
            if self.has(day):
                yield day
            day += _DAY

    def _fits_weekday(self, day: date) -> bool:
        weekday = day.isoweekday() % 7
        if not self.counted:
            return weekday in self.weekdays
        number = (day.day + 6) // 7
        is_last = (day + timedelta(days=7)).month != day.month
        return (weekday, number) in self.counted or (
            is_last and (weekday, _LAST) in self.counted
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What the five fields of an expression name."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: Days
    is_fixed: bool
    """Whether it names times of a day; else it counts on, as an interval does."""


def fields_of(expression: str) -> Fields:
    """Return what *expression* names, to which there is no objection.

    Raises:
        ValueError: Croniter refuses it.
    """
    from croniter import croniter  # type: ignore[import-untyped]  # noqa: PLC0415 - slow to import

    text = written_out(expression)
    minute, hour, day, _, weekday = text.split(" ")
    expanded, counted = croniter.expand(text)
    values = [_values(*each) for each in zip(COLUMNS, expanded, strict=True)]
    return Fields(
        minutes=tuple(sorted(values[0])),
        hours=tuple(sorted(values[1])),
        days=Days(
            days=values[2],
            has_last=_LAST in expanded[COLUMNS.index(DAY)],
            months=values[3],
            weekdays=frozenset() if counted else values[4],
            counted=_counted(counted),
            needs_both=day[0] == "*" or weekday[0] == "*",
        ),
        is_fixed=minute[0] != "*" and hour[0] != "*",
    )


def _values(column: Column, expanded: list[Any]) -> frozenset[int]:
    if expanded == ["*"]:
        return frozenset(range(column.low, column.high + 1))
    return frozenset(int(value) for value in expanded if value != _LAST)


def _counted(counted: dict[Any, set[Any]]) -> frozenset[tuple[int, int | str]]:
    return frozenset(
        (int(weekday), number)
        for weekday, numbers in counted.items()
        for number in numbers
    )


def _is_last(day: date) -> bool:
    return day.day == monthrange(day.year, day.month)[1]


def _next_month(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)

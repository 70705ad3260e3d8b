"""What an expression means, as people say it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from statejobs.values.crontab.columns import DAY, HOUR, MINUTE, MONTH, WEEKDAY, Column
from statejobs.values.crontab.nicknames import written_out

_MOST_TIMES = 6
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_WEEKDAYS = (
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
)
_NOUNS = {
    "minute": ("minute ", "minute"),
    "hour": ("hour ", "hour"),
    "day of month": ("day ", "day"),
    "month": ("", "month"),
    "weekday": ("", "weekday"),
}
"""What stands before the values of a field, and after `every 2nd`."""
_ORDER = ("", "first", "second", "third", "fourth", "fifth")


def in_words(expression: str) -> str:
    """Return what *expression*, to which there is no objection, means."""
    minute, hour, day, month, weekday = written_out(expression).split(" ")
    time, days = _time(minute, hour), _days(day, weekday)
    if not days and time.startswith("at "):
        days = "every day"
    return " ".join(filter(None, [time, days, _months(month)]))


def _time(minute: str, hour: str) -> str:
    minutes, hours = minute.split(","), hour.split(",")
    if all(map(str.isdecimal, minutes + hours)):
        times = sorted(set(product(map(int, hours), map(int, minutes))))
        if len(times) <= _MOST_TIMES:
            return "at " + _and([f"{each:02}:{past:02}" for each, past in times])
    every_minutes, every_hours = _even_step(MINUTE, minute), _even_step(HOUR, hour)
    if every_minutes:
        of_hours = "" if hour == "*" else f" of {_items(HOUR, hour)}"
        return f"{_every(every_minutes, 'minute')}{of_hours}"
    if every_hours:
        at_minutes = "" if minute == "0" else f" at {_items(MINUTE, minute)}"
        return f"{_every(every_hours, 'hour')}{at_minutes}"
    return f"at {_items(MINUTE, minute)} of {_items(HOUR, hour)}"


def _every(step: int, noun: str) -> str:
    return f"every {noun}" if step == 1 else f"every {step} {noun}s"


def _even_step(column: Column, text: str) -> int | None:
    """Return by how much a field counts on, if it does so around the clock."""
    if text == "*":
        return 1
    start, _, step = text.partition("/")
    if start == "*" and step.isdecimal() and column.size % int(step) == 0:
        return int(step)
    return None


def _days(day: str, weekday: str) -> str:
    days = "" if day == "*" else _days_of_month(day)
    weekdays = "" if weekday == "*" else _weekdays(weekday)
    if not days or not weekdays:
        return f"on {days}{weekdays}" if days or weekdays else ""
    if "*" in {day[0], weekday[0]}:
        return f"on {days} if that is {weekdays}"
    return f"on {days} and on {weekdays}"


def _days_of_month(day: str) -> str:
    days = ",".join(item for item in day.split(",") if item not in {"L", "l"})
    further = [] if days == day else ["the last day"]
    told = _items(DAY, days, further) if days else _and(further)
    return f"{told} of the month"


def _weekdays(weekday: str) -> str:
    items = [_counted(item) for item in weekday.split(",")]
    if all(items):
        return f"the {_and(items)} of the month"
    return _items(WEEKDAY, weekday)


def _counted(item: str) -> str:
    """Return `first Friday` for `5#1`; nothing for what is in each week."""
    if "#" in item:
        name, _, number = item.partition("#")
        return f"{_ORDER[int(number)]} {_WEEKDAYS[WEEKDAY.value(name) or 0]}"
    if item[0] in "lL":
        return f"last {_WEEKDAYS[int(item[1:])]}"
    return ""


def _months(month: str) -> str:
    return "" if month == "*" else f"in {_items(MONTH, month)}"


def _items(column: Column, text: str, further: Sequence[str] = ()) -> str:
    """Return the items of a field; the first bears the noun, as all do beside one with a step."""
    items = [_item(column, item, is_whole="/" in text) for item in text.split(",")]
    told = [*items, *further]
    return _and(told) if "/" in text else f"{_NOUNS[column.name][0]}{_and(told)}"


def _item(column: Column, item: str, *, is_whole: bool) -> str:
    span, _, step = item.partition("/")
    low, _, high = span.partition("-")
    before, noun = _NOUNS[column.name]
    until = f" to {_value(column, high)}" if high else ""
    if step:
        start = "" if low == "*" else f" from {_value(column, low)}"
        return f"every {_ordinal(int(step))} {noun}{start}{until}"
    return f"{before if is_whole else ''}{_value(column, low)}{until}"


def _value(column: Column, text: str) -> str:
    value = column.value(text) or 0
    if column is MONTH:
        return _MONTHS[value - 1]
    return _WEEKDAYS[value] if column is WEEKDAY else str(value)


def _ordinal(number: int) -> str:
    last = "" if number // 10 % 10 == 1 else str(number % 10)
    return f"{number}{ {'1': 'st', '2': 'nd', '3': 'rd'}.get(last, 'th') }"


def _and(words: list[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last

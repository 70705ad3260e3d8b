"""One item of a field, such as `5`, `1-5` or `*/2`, and what is refused of it."""

from __future__ import annotations

import re

from statejobs.errors import did_you_mean
from statejobs.values.crontab.columns import DAY, HOUR, MINUTE, WEEKDAY, Column
from statejobs.values.crontab.objection import Objection

_RANGE = re.compile(r"(\*|\w+)(?:-(\w+))?(?:/(\d{1,9}))?", re.ASCII)
_COUNTED = re.compile(r"(\w+)#(\d+)|l(\d)", re.ASCII | re.IGNORECASE)
_LAST_BEHIND = re.compile(r"(\d)l", re.IGNORECASE)
_FOREIGN = re.compile(r"\?|[hr](\(.*\))?(/\d+)?|l?w|w\d+|\d+w", re.IGNORECASE)
_FOREIGN_MEANS = {
    "?": "'?' leaves it to another field what this one means",
    "h": "'H' is another number for each name that it is given",
    "r": "'R' is random, so each worker would have a schedule of its own",
    "w": "'W' moves a day to one that is not written",
}
_WEEKS = 5


def objection_to_item(column: Column, item: str) -> Objection | None:
    """Say why *item* is refused in *column*; *instead* is for this item alone."""
    if column is DAY and item in {"L", "l"}:
        return None
    counted = _COUNTED.fullmatch(item)
    if column is WEEKDAY and counted:
        return _to_counted(counted)
    if _FOREIGN.fullmatch(item):
        return _to_foreign(item)
    found = _RANGE.fullmatch(item)
    if found is None or (found[1] == "*" and found[2]):
        return _not_understood(column, item)
    return (
        _to_values(column, found[1], found[2])
        or _to_order(column, found[1], found[2], found[3])
        or _to_step(column, found[1], found[2], found[3])
    )


def _to_counted(counted: re.Match[str]) -> Objection | None:
    refused = _to_value(WEEKDAY, counted[1] or counted[3])
    if refused or counted[3] or 1 <= int(counted[2]) <= _WEEKS:
        return refused
    return Objection(
        what="no such week",
        why=f"a month has its weekday at most {_WEEKS} times",
        fix=f"say '{counted[1]}#1' for the first, "
        f"'L{WEEKDAY.value(counted[1])}' for the last",
    )


def _to_foreign(item: str) -> Objection:
    letter = "w" if "w" in item.lower() else item[0].lower()
    is_any = letter == "?"
    return Objection(
        what="",
        why=_FOREIGN_MEANS[letter],
        fix="" if is_any else "write the value itself",
        instead="*" if is_any else None,
    )


def _not_understood(column: Column, item: str) -> Objection:
    last = _LAST_BEHIND.fullmatch(item) if column is WEEKDAY else None
    return Objection(
        what="",
        why="a field has values, '1-5', '*/2', and commas between them",
        fix=f"say '*' for every {column.name}",
        instead=f"L{last[1]}" if last else None,
    )


def _to_values(column: Column, *values: str | None) -> Objection | None:
    for value in values:
        refused = _to_value(column, value) if value not in {None, "*"} else None
        if refused:
            return refused
    return None


def _to_value(column: Column, text: str | None) -> Objection | None:
    """Refuse a number out of bounds, and a name that there is not."""
    word = text or ""
    value = column.value(word)
    if value is None:
        return _to_name(column, word)
    if column.low <= value <= column.most:
        return None
    is_next_day = column in {MINUTE, HOUR} and value == column.size
    return Objection(
        what="",
        why=f"it goes from {column.low} to {column.most}",
        fix=f"say a number from {column.low} to {column.most}",
        instead="0" if is_next_day else None,
    )


def _to_name(column: Column, word: str) -> Objection:
    if _LAST_BEHIND.fullmatch(word) or word.lower() == "l":
        return _not_understood(column, word)
    longer = word[:3].lower()
    return Objection(
        what="",
        why=f"{word!r} is no {column.name}",
        fix=did_you_mean(word.lower(), column.names)
        if column.names
        else f"say a number from {column.low} to {column.most}",
        instead=longer if longer in column.names else None,
    )


def _to_order(
    column: Column, low: str, high: str | None, step: str | None
) -> Objection | None:
    """Refuse a range that wraps, and one of a single value, which croniter takes for all."""
    if high is None:
        return None
    first, last = column.value(low), column.value(high)
    if first is None or last is None or first < last:
        return None
    if first == last:
        return Objection(what="", why="its ends are one value", instead=low)
    return _wraps(column, first, last, step)


def _wraps(column: Column, first: int, last: int, step: str | None) -> Objection:
    around = [*range(first, column.high + 1), *range(column.low, last + 1)]
    parts = [str(value) for value in around[:: int(step or 1) or 1]]
    if step is None:
        parts = [_span(first, column.high), _span(column.low, last)]
    return Objection(what="", why="it begins after it ends", instead=",".join(parts))


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _to_step(
    column: Column, low: str, high: str | None, step: str | None
) -> Objection | None:
    """Refuse a step that goes nowhere."""
    if step is None:
        return None
    by = int(step)
    first = column.low if low == "*" else column.value(low)
    last = column.high if high is None else column.value(high)
    if first is None or last is None or (by and first + by <= last):
        return None
    is_round = low == "*" and by == column.size
    return Objection(
        what="",
        why=f"steps are counted anew from {first}, and this one reaches no second value",
        fix=f"say a step of at most {max(last - first, 1)}, or list the values",
        instead=str(first) if low != "*" or is_round else None,
    )

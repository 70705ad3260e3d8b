"""Which cron expressions we take: five fields, and nothing in them that is read in two ways.

It is asked before croniter, which takes more: a sixth field as seconds, ranges that wrap, `R` that
is random in each process, `5-5` as every value, and `1,L1` as the last Monday alone.
"""

from __future__ import annotations

from dataclasses import replace

from statejobs.values.crontab.columns import COLUMNS, DAY, Column
from statejobs.values.crontab.items import objection_to_item
from statejobs.values.crontab.nicknames import objection_to_nickname, written_out
from statejobs.values.crontab.objection import Objection

LONGEST = 200
_FIVE = "minute, hour, day of month, month and weekday are all that there are"
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")


def objection_to(expression: str) -> Objection | None:
    """Say why *expression* is none of ours; None when it is."""
    return (
        _to_text(expression)
        or (objection_to_nickname(expression) if expression.startswith("@") else None)
        or _to_count(expression)
        or _to_items(written_out(expression).split(" "), expression)
        or _to_counted_weekday(written_out(expression).split(" "), expression)
    )


def _to_text(expression: str) -> Objection | None:
    if len(expression) > LONGEST:
        return Objection(
            what=f"an expression of {len(expression)} characters",
            why=f"none needs more than {LONGEST}",
            fix="give ranges and steps, or several schedules",
        )
    if expression.isascii() and expression.isprintable():
        return None
    return Objection(
        what=f"{expression!r} has a character that is neither printed nor ASCII",
        why="it would look like an expression that it is not",
        fix="write digits, letters and spaces",
        instead=_in_ascii(expression),
    )


def _in_ascii(expression: str) -> str | None:
    """Return *expression* with the spaces that were meant, if those were all."""
    spaced = " ".join(expression.split())
    return spaced if spaced.isascii() and spaced.isprintable() else None


def _to_count(expression: str) -> Objection | None:
    fields = written_out(expression).split(" ")
    number = len(fields) if expression else 0
    if number == len(COLUMNS):
        return None
    told = _NUMBERS[number] if number < len(_NUMBERS) else str(number)
    return Objection(
        what=f"{expression!r} has {told} field{'' if number == 1 else 's'}",
        why=_FIVE,
        fix="say '0 3 * * *' for 03:00 every day",
        instead=_five_of(fields),
    )


def _five_of(fields: list[str]) -> str | None:
    """Return the five that were meant: others have seconds before them, or a year behind."""
    match fields:
        case ["0" | "00", *five] if len(five) == len(COLUMNS):
            return " ".join(five)
        case [_, *five, _] if len(five) == len(COLUMNS):
            return " ".join(five)
        case [*five, _] if len(five) == len(COLUMNS):
            return " ".join(five)
        case _:
            return None


def _to_items(fields: list[str], expression: str) -> Objection | None:
    """Refuse the first item of a field that is none of ours, and show the whole without it."""
    for place, column in enumerate(COLUMNS):
        items = fields[place].split(",")
        for item in items:
            found = _to_item(column, item, items)
            if found:
                which = f"{fields[place]!r} as its {column.name}"
                told = f": {found.what}" if found.what else ""
                what = f"{expression!r} has {which}{told}"
                mended = _with(fields, place, items, item, found.instead)
                return replace(found, what=what, instead=mended)
    return None


def _to_item(column: Column, item: str, items: list[str]) -> Objection | None:
    if not item:
        return Objection(what="", why="a comma stands between two values", instead="")
    if item == "*" and len(items) > 1:
        why = "'*' means all of them already"
        return Objection(what="", why=why, fix="leave out one of both")
    return objection_to_item(column, item)


def _with(
    fields: list[str], place: int, items: list[str], item: str, instead: str | None
) -> str | None:
    """Return the expression with *instead* of one item; without it when that is empty."""
    if instead is None:
        return None
    others = [instead if one == item else one for one in items]
    field = ",".join(filter(None, others)) or "*"
    return " ".join([*fields[:place], field, *fields[place + 1 :]])


def _to_counted_weekday(fields: list[str], expression: str) -> Objection | None:
    """Refuse `5#1` and `L5` beside a day of month: cron has no rule for it."""
    day, weekday = fields[COLUMNS.index(DAY)], fields[-1]
    counts = ["#" in item or item[0] in "lL" for item in weekday.split(",")]
    if any(counts) and not all(counts):
        return Objection(
            what=f"{expression!r} counts some of its weekdays and not others",
            why="one field names weekdays of each week, or of the month",
            fix="declare two schedules",
        )
    if not any(counts) or day == "*":
        return None
    return Objection(
        what=f"{expression!r} has a day of month beside {weekday!r}",
        why="nobody could tell whether either is enough, or both are needed",
        fix="declare two schedules",
        instead=" ".join([*fields[:2], "*", *fields[3:]]),
    )

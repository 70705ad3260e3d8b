"""`@daily` and its like, and what is refused of them."""

from __future__ import annotations

import re

from statejobs.errors import did_you_mean
from statejobs.values.crontab.objection import Objection

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EVERY = re.compile(r"@every\s+(\d{1,4})\s*(m|min|minutes?|h|hours?)", re.IGNORECASE)


def written_out(expression: str) -> str:
    """Return the five fields for which a nickname stands; else *expression*."""
    return NICKNAMES.get(expression.lower(), expression)


def objection_to_nickname(expression: str) -> Objection | None:
    """Say why a word that begins with `@` is refused."""
    name = expression.lower().split(" ")[0]
    if expression.lower() in NICKNAMES:
        return None
    if name == "@reboot":
        return Objection(
            what=f"{expression!r} names no time",
            why="a schedule belongs to all workers, and none of them is the machine",
            fix="Enqueue a task where your process starts",
        )
    if name == "@every":
        return _every(expression)
    return Objection(
        what=f"{expression!r} is no expression",
        why="few words stand for five fields",
        fix=did_you_mean(name, NICKNAMES),
    )


def _every(expression: str) -> Objection:
    found = _EVERY.fullmatch(expression)
    return Objection(
        what=f"{expression!r} does not say from when on it counts",
        why="workers come and go, so a schedule is told by the clock on the wall",
        fix="say '*/5 * * * *' for every five minutes, '0 */2 * * *' for every two hours",
        instead=found and _steps(int(found[1]), found[2].lower()[0]),
    )


def _steps(number: int, unit: str) -> str | None:
    """Return what runs every so many minutes or hours, if the clock can tell it."""
    whole, shape = (60, "{} * * * *") if unit == "m" else (24, "0 {} * * *")
    if not number or whole % number or number == whole:
        return None
    return shape.format("*" if number == 1 else f"*/{number}")

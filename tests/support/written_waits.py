"""Writes how long the default backoff waits, attempt by attempt, into the page on declarations."""

import random
from datetime import timedelta

from statejobs import Exponential

LAST = 20
HEADING = "### How long it waits"
_TABLE = (
    "| attempt that failed | waits at least | and at most | all waits so far, at least |\n"
    "|---|---|---|---|\n"
)
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


class _Chance(random.Random):
    """Chance that always comes out the same."""

    def __init__(self, always: float) -> None:
        super().__init__(0)
        self._always = always

    def random(self) -> float:
        return self._always


def waits_written(page: str) -> str:
    """Return *page* with a row for each attempt in the table under its heading."""
    start = page.index(_TABLE, page.index(f"\n{HEADING}\n")) + len(_TABLE)
    end = page.index("\n\n", start) + 1 if page[start] == "|" else start
    return page[:start] + "".join(_rows()) + page[end:]


def _rows() -> list[str]:
    backoff = Exponential()
    together = timedelta()
    rows = []
    for attempt in range(1, LAST + 1):
        least = backoff.delay(attempt, None, _Chance(0.0))
        most = backoff.delay(attempt, None, _Chance(1.0))
        together += least
        cells = (str(attempt), shown(least), shown(most), shown(together))
        rows.append(f"| {' | '.join(cells)} |\n")
    return rows


def shown(span: timedelta) -> str:
    """Return a duration by its two largest units, in whole seconds."""
    left = round(span.total_seconds())
    parts = []
    for unit, seconds in _UNITS:
        count, left = divmod(left, seconds)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))

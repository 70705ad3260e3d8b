"""Prints for people: in colour on a terminal, as plain aligned text elsewhere, never cut there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {
    "scheduled": "cyan",
    "queued": "cyan",
    "processing": "yellow",
    "completed": "green",
    "failed": "red",
    "discarded": "bold red",
    "cancelled": "dim",
    "lives": "green",
    "silent": "red",
}
_GAP = "  "
_LEAST = 8
"""Characters that a column which may wrap gets at least."""
_MAY_WRAP = ("record", "what", "queues")
"""Columns that a narrow terminal may fold, beside the last of each table."""


class Output:
    """Writes to stdout."""

    def __init__(self) -> None:
        self._is_first = True

    def json(self, document: object) -> None:
        """Print one JSON document."""
        click.echo(json.dumps(document, indent=2, default=_plain))

    def text(self, text: str) -> None:
        """Print *text* as it is."""
        self._is_first = False
        click.echo(text)

    def title(self, text: str) -> None:
        """Begin a section."""
        if not self._is_first:
            click.echo()
        self._is_first = False
        console = _console()
        if console:
            console.print(text, style="bold", markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(text)

    def facts(self, facts: Mapping[str, object]) -> None:
        """Print names and values; empty values are left out."""
        self._is_first = False
        known = {name: str(value) for name, value in facts.items() if value not in {None, ""}}
        width = max(map(len, known), default=0)
        console = _console()
        for name, value in known.items():
            label = name.ljust(width) + _GAP
            if console:
                from rich.text import Text

                line = Text.assemble((label, "dim"), (value, _STYLES.get(value, "")))
                console.print(line, soft_wrap=True)
            else:
                click.echo(label + value)

    def fits(self, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> bool:
        """Return whether such a table is no wider than the terminal; elsewhere any width fits."""
        console = _console()
        if console is None:
            return True
        cells = [[_cell(value) for value in row] for row in rows]
        return sum(_widths(headers, cells)) + len(_GAP) * (len(headers) - 1) <= console.width

    def table(
        self, headers: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()
    ) -> None:
        """Print *rows* under *headers*; those named in *right* are aligned to the right."""
        self._is_first = False
        cells = [[_cell(value) for value in row] for row in rows]
        console = _console()
        if console:
            _print_rich(console, headers, cells, right)
        else:
            _print_plain(headers, cells, right)


def note(text: str) -> None:
    """Tell people something that is not data."""
    click.echo(text, err=True)


def iso(at: datetime | None) -> str | None:
    """Return *at* as ISO-8601 in UTC."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def clock_time(at: datetime | None) -> str:
    """Return *at* for people, in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else ""


def relative(at: datetime | None, now: datetime) -> str:
    """Return how far *at* is from *now*: `3 min ago`, `in 20 s`."""
    if at is None:
        return ""
    seconds = (now - at).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def span(seconds: float) -> str:
    """Return a length of time in its largest unit: `42 s`, `3 min`, `5 h`, `2 d`."""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _plain(value: object) -> object:
    return iso(value) if isinstance(value, datetime) else str(value)


def _cell(value: object) -> str:
    return "" if value is None else " ".join(str(value).split())


def _console() -> Console | None:
    """Return rich's console when stdout is a terminal that can show it."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return None
    from rich.console import Console

    return Console(file=sys.stdout)


def _widths(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(headers, *rows, strict=True)]


def _print_plain(headers: Sequence[str], rows: list[list[str]], right: Sequence[str]) -> None:
    widths = _widths(headers, rows)
    for row in (headers, *rows):
        padded = [
            cell.rjust(width) if header in right else cell.ljust(width)
            for cell, width, header in zip(row, widths, headers, strict=True)
        ]
        click.echo(_GAP.join(padded).rstrip())


def _print_rich(
    console: Console, headers: Sequence[str], rows: list[list[str]], right: Sequence[str]
) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0), header_style="dim")
    may_wrap = {headers[-1], *_MAY_WRAP}
    widths = zip(headers, _widths(headers, rows), strict=True)
    needed = sum(_LEAST if header in may_wrap else width for header, width in widths)
    is_narrow = needed + len(_GAP) * (len(headers) - 1) > console.width
    for header in headers:
        table.add_column(
            header, justify="right" if header in right else "left", overflow="fold",
            no_wrap=not is_narrow and header not in may_wrap,  # what may not wrap would be cut
        )  # fmt: skip
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console.print(table)


def decoded(text: str | None) -> Any:
    """Return stored JSON as values."""
    return None if text is None else json.loads(text)

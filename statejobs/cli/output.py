"""Lays out for people: in colour and folded on a terminal, elsewhere in whole lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime

from statejobs.cli import layout
from statejobs.cli.terminal import Part, Terminal, width
from statejobs.values.moments import iso
from statejobs.values.visible import visible_line

_STYLES = {
    "scheduled": "waits",
    "queued": "waits",
    "processing": "runs",
    "completed": "good",
    "failed": "bad",
    "discarded": "worst",
    "cancelled": "over",
    "lives": "good",
    "silent": "bad",
}
_GAP = layout.GAP


def _plain(value: object) -> object:
    return iso(value) if isinstance(value, datetime) else str(value)


def _of_answer(value: object) -> object:
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return _plain(value)


class Output:
    """Writes data to stdout, and notes about it to stderr."""

    def __init__(self) -> None:
        self.terminal = Terminal()
        self._is_first = True

    def json(self, document: object) -> None:
        """Print one JSON document: plain values, and answers, whose fields are its keys."""
        self.terminal.print(as_json(document, indent=2, default=_of_answer))

    def text(self, text: str) -> None:
        """Print *text* as it is."""
        self._is_first = False
        self.terminal.print(text)

    def note(self, text: str) -> None:
        """Tell people something that is not data."""
        self.terminal.print(text, err=True)

    def title(self, text: str) -> None:
        """Begin a section."""
        if not self._is_first:
            self.terminal.print("")
        self._is_first = False
        self.terminal.print_parts([(text, "title")])

    def paragraph(self, text: str) -> None:
        """Print *text*, folded at its words; what follows its first line is indented."""
        self._is_first = False
        indent = ""
        for line in text.splitlines():
            for part in layout.folded(f"{indent}{line}", width(), further=_GAP):
                self.terminal.print(part)
            indent = _GAP

    def facts(self, facts: Mapping[str, object]) -> None:
        """Print names and values; empty values are left out."""
        self._is_first = False
        known = {
            name: str(value) for name, value in facts.items() if value not in {None, ""}
        }
        longest = max(map(len, known), default=0)
        for name, value in known.items():
            self._fact(f"{name.ljust(longest)}{_GAP}", value)

    def _fact(self, label: str, value: str) -> None:
        room = width()
        style = _STYLES.get(value, "")
        for line in layout.folded(visible_line(value), room and room - len(label)):
            self.terminal.print_parts([(label, "head"), (line, style)])
            label = " " * len(label)

    def fits(self, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> bool:
        """Return whether such a table is no wider than the terminal; elsewhere any width fits."""
        room = width()
        return room is None or layout.total(_cells(headers, rows)) <= room

    def table(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        right: Sequence[str] = (),
        below: Sequence[str] = (),
    ) -> None:
        """Print *rows* under *headers*.

        Args:
            headers: Names of the columns.
            rows: Their cells.
            right: Columns that are aligned to the right.
            below: Columns that a narrow terminal shows on lines of their own, the first first;
                else those to the right.
        """
        self._is_first = False
        order = below or headers[:0:-1]
        for line in layout.table(
            headers, _cells(headers, rows)[1:], width(), right, order
        ):
            self.terminal.print_parts([*map(_coloured, line)])


def as_json(
    document: object,
    *,
    indent: int | None = None,
    default: Callable[[object], object] = _plain,
) -> str:
    """Return *document* as JSON that no terminal obeys."""
    return json.dumps(document, indent=indent, default=default).replace(
        "\x7f", "\\u007f"
    )


def _cells(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> list[list[str]]:
    return [list(headers), *([_cell(value) for value in row] for row in rows)]


def _cell(value: object) -> str:
    return "" if value is None else visible_line(" ".join(str(value).split()))


def _coloured(part: Part) -> Part:
    text, style = part
    return text, style or _STYLES.get(text.strip(), "")

"""Tables and paragraphs as lines: no word is broken, and nothing is cut."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

GAP = "  "
_INDENT = "    "

Line = list[tuple[str, str]]
"""Texts, each with the name of its style; no style is empty."""


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    room: int | None,
    right: Sequence[str],
    below: Sequence[str],
) -> Iterator[Line]:
    """Yield the lines of a table.

    Args:
        headers: Names of the columns.
        rows: Their cells.
        room: Characters that a line may have; None for any number.
        right: Columns that are aligned to the right.
        below: Columns that go below their row when it is too wide, the first first.
    """
    beside = _beside([list(headers), *map(list, rows)], room, below)
    widths = [max(cells(row[n]) for row in (headers, *rows)) for n in beside]
    for row in (headers, *rows):
        line: Line = []
        for n, wide in zip(beside, widths, strict=True):
            pad = " " * (wide - cells(row[n]))
            style = "head" if row is headers else ""
            text = f"{pad}{row[n]}" if headers[n] in right else f"{row[n]}{pad}"
            line += [(GAP, ""), (text, style)]
        yield line[1:]
        if row is not headers:
            yield from _under(headers, row, beside, room)


def total(rows: Sequence[Sequence[str]]) -> int:
    """Return how wide a table of *rows* is, the headers among them."""
    return _width(rows, range(len(rows[0])))


def folded(text: str, room: int | None, *, further: str = "") -> list[str]:
    """Return *text* as lines of at most *room* characters; a longer word has its own, whole.

    What follows the first line begins with *further*.
    """
    if room is None or cells(text) <= room:
        return [text]
    first, *words = text.lstrip(" ").split(" ")
    lines = [f"{text[: -len(text.lstrip(' '))]}{first}"]
    for word in words:
        longer = f"{lines[-1]} {word}"
        if cells(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(f"{further}{word}")
    return lines


def cells(text: str) -> int:
    """Return how many columns of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    return sum(map(_of_character, text))


def _of_character(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {
        "Mn",
        "Me",
        "Cf",
    }:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _beside(rows: list[list[str]], room: int | None, below: Sequence[str]) -> list[int]:
    """Return the columns that stand beside each other: as many as there is room for."""
    beside = list(range(len(rows[0])))
    under: list[int] = []
    for name in below:
        if room is None or _width(rows, beside) <= room:
            break
        under.append(rows[0].index(name))
        beside.remove(under[-1])
    for column in reversed(under):
        # one that is narrow has room again where a wide one has left
        if _width(rows, wider := sorted([*beside, column])) <= (room or 0):
            beside = wider
    return beside


def _width(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> int:
    return sum(max(cells(row[n]) for row in rows) for n in columns) + len(GAP) * (
        len(columns) - 1
    )


def _under(
    headers: Sequence[str], row: Sequence[str], beside: Sequence[int], room: int | None
) -> Iterator[Line]:
    """Yield what did not fit, named, below its row."""
    under = [n for n in range(len(headers)) if n not in beside and row[n]]
    longest = max((cells(headers[n]) for n in under), default=0)
    for n in under:
        label = f"{_INDENT}{headers[n].ljust(longest)}{GAP}"
        for text in folded(row[n], room and room - len(label)):
            yield [(label, "head"), (text, "")]
            label = " " * len(label)

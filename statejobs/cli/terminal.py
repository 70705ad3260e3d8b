"""The one place through which everything of ours is printed: control characters as text.

Whoever reads may go away, and a disk may be full: what a command does is done to its end all the
same, and then it says so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import click

from statejobs.values.visible import visible, visible_line

Part = tuple[str, str]
"""Text and the name of its style; no style is empty."""

_STYLES: dict[str, dict[str, object]] = {
    "head": {"dim": True},
    "title": {"bold": True},
    "waits": {"fg": "cyan"},
    "runs": {"fg": "yellow"},
    "good": {"fg": "green"},
    "bad": {"fg": "red"},
    "worst": {"fg": "red", "bold": True},
    "over": {"dim": True},
}
_DEFAULT_WIDTH = 80


@dataclass(slots=True)
class Terminal:
    """Standard output and standard error."""

    problem: OSError | None = None
    """Why standard output could not be written, but for a reader that went away."""

    def print(self, text: str, *, err: bool = False) -> None:
        """Print *text*, of one line or several."""
        self._write(visible(text), err=err)

    def print_parts(self, parts: Sequence[Part]) -> None:
        """Print one line, in colour where that is wanted."""
        shown = [(visible_line(text), style) for text, style in parts]
        while shown and not shown[-1][0].strip():
            shown.pop()
        if shown:
            text, style = shown[-1]
            shown[-1] = (text.rstrip(), style)
        paint = _styled if shows_colour() else _unstyled
        self._write("".join(paint(*part) for part in shown))

    def close(self) -> None:
        """Let the interpreter's own last flush meet no error."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (
                OSError,
                ValueError,
                AttributeError,
            ):
                # full, closed, or none at all
                with suppress(OSError, ValueError, AttributeError):
                    _silence(stream.fileno())

    def _write(self, line: str, *, err: bool = False) -> None:
        stream = sys.stderr if err else sys.stdout
        if stream is None or stream.closed:
            self._note(OSError("it is closed"), err=err)
            return
        try:
            # colour is decided here: click would take it out of what is piped on purpose
            click.echo(line, file=stream, color=True)
        except BrokenPipeError:
            _silence(stream.fileno())
        except OSError as error:
            self._note(error, err=err)
            _silence(stream.fileno())

    def _note(self, error: OSError, *, err: bool) -> None:
        if not err and self.problem is None:
            self.problem = error


def width() -> int | None:
    """Return how many characters a line of the terminal holds; None where any line may be long."""
    if not _is_terminal():
        return None
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _DEFAULT_WIDTH
    except (OSError, ValueError):
        return _DEFAULT_WIDTH


def shows_colour() -> bool:
    """Return whether to colour: NO_COLOR says no, FORCE_COLOR yes, else only a terminal is."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") != "dumb" and _is_terminal()


def _is_terminal() -> bool:
    return sys.stdout is not None and not sys.stdout.closed and sys.stdout.isatty()


def _styled(text: str, style: str) -> str:
    return click.style(text, **_STYLES[style]) if style and text.strip() else text  # type: ignore[arg-type]


def _unstyled(text: str, _style: str) -> str:
    return text


def _silence(descriptor: int) -> None:
    """Let what is written from now on vanish, the interpreter's own last flush included."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)

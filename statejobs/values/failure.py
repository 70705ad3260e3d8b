"""What is kept of an error: clean, bounded, redacted. Nothing here can fail."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from statejobs.errors import RecordFailedError
from statejobs.values.discretion import (
    is_of_statement,
    said_by_database,
    without_statements,
    without_values,
)
from statejobs.values.redaction import DEFAULT, Redaction
from statejobs.values.text import (
    clean_text,
    plain,
    shown_code,
    shown_text,
    type_name,
    unprintable,
)

MESSAGE_LIMIT = 8_192
TRACEBACK_LIMIT = 65_536
SUMMARY_LIMIT = 500
LINE_LIMIT = 300  # characters

_TYPE_LIMIT = 200
_MOST_ERRORS = 50
_MOST_LINKS = 10
_MOST_NOTES = 20
_MOST_FRAMES = 1_000
_OURS = "statejobs"
_DRIVERS = {"sqlalchemy", "psycopg", "psycopg_pool", "aiosqlite", "contextlib"}

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as text that any database stores."""

    error_type: str
    """Its class; empty for what an action said itself of a record."""
    message: str
    traceback: str
    says: str | None = None
    """What the database said, on a line; None when it is no error of a database."""

    @property
    def cause(self) -> str:
        """The error on a line, for a reason: what the database said, or type and message."""
        if self.says:
            return self.says
        line = next(filter(None, map(str.strip, self.message.splitlines())), "")
        return ": ".join(filter(None, (self.error_type, _shortened(line))))


def _shortened(line: str) -> str:
    return line if len(line) <= LINE_LIMIT else f"{line[: LINE_LIMIT - 1]}…"


_FALLBACK = Failure(
    error_type="UnknownError",
    message="(the error could not be described)",
    traceback="(no traceback: the error could not be described)",
)


def describe_failure(error: BaseException, redaction: Redaction = DEFAULT) -> Failure:
    """Describe *error*; never raises, whatever the error does.

    The message holds at most 8 kB of UTF-8 and the traceback 64 kB, head and tail kept. What
    stands after the name of a secret, and the password of a URL, is masked; what a database repeats
    of parameters and rows is left out, and so is the statement, but in the traceback of an action
    that executed it.
    """
    try:
        said = _said(error)
        return Failure(
            error_type=shown_text(_type_to_keep(error), _TYPE_LIMIT, redaction),
            message=_message_with_notes(error, redaction),
            traceback=_traceback_to_keep(error, redaction),
            says=said and shown_text(said, SUMMARY_LIMIT, redaction),
        )
    except BaseException:  # noqa: BLE001 - recording a failure cannot fail
        return _FALLBACK


def first_line(error: BaseException) -> str:
    """Return the first line of the message of *error*, or its type; secrets masked."""
    lines = str(error).strip().splitlines()
    return DEFAULT.text(lines[0]) if lines else type(error).__name__


def _type_to_keep(error: BaseException) -> str:
    return "" if type(error) is RecordFailedError else type_name(error)


def _said(error: BaseException) -> str | None:
    """Return the first line of what a database said."""
    try:
        lines = (said_by_database(error) or "").strip().splitlines()
    except BaseException:  # noqa: BLE001 - a property may raise
        return None
    return lines[0] if lines else None


def _message(error: BaseException) -> str:
    try:
        said = said_by_database(error)
        if said is not None:
            return said
        return without_statements(error, without_values(error, plain(error)))
    except BaseException:  # noqa: BLE001 - __str__ is the user's
        return unprintable(error)


def _message_with_notes(error: BaseException, redaction: Redaction) -> str:
    notes = (shown_text(note, MESSAGE_LIMIT, redaction) for note in _notes(error))
    return shown_text("\n".join([_message(error), *notes]), MESSAGE_LIMIT, redaction)


def _message_in_traceback(error: BaseException) -> str:
    """Return the message, with the statement where a line of the user's executed it."""
    if not is_of_statement(error) or _callers(error)[-1:] == [_OURS]:
        return _message(error)
    try:
        return without_values(error, plain(error))
    except BaseException:  # noqa: BLE001 - as above
        return unprintable(error)


def _callers(error: BaseException) -> list[str]:
    """Return the packages whose code *error* came through, but for those that pass it on."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    modules = (str(frame.f_globals.get("__name__")) for frame in frames)
    packages = (module.partition(".")[0] for module in modules)
    return [package for package in packages if package not in _DRIVERS]


def _notes(error: BaseException) -> list[Any]:
    """Return what was added to *error* for people."""
    notes = _attribute(error, "__notes__")
    return notes[:_MOST_NOTES] if isinstance(notes, list) else []


def _attribute(error: BaseException, name: str) -> object:
    try:
        return getattr(error, name, None)
    except BaseException:  # noqa: BLE001 - a property may raise
        return None


def traceback_of(error: BaseException, redaction: Redaction = DEFAULT) -> str:
    """Format like the interpreter, but bounded and redacted; locals are never captured."""
    return clean_text(_traceback(error, redaction), TRACEBACK_LIMIT)


def _traceback_to_keep(error: BaseException, redaction: Redaction) -> str:
    """Return none of a statement of ours that the database refused: it would show our insides."""
    try:
        if type(error) is RecordFailedError:
            return ""
        is_ours = is_of_statement(error) and set(_callers(error)) == {_OURS}
    except BaseException:  # noqa: BLE001 - a frame may hold any globals
        is_ours = False
    return "" if is_ours else traceback_of(error, redaction)


def _traceback(error: BaseException, redaction: Redaction) -> str:
    try:
        return "".join(_Chain(redaction, set()).lines(error))
    except BaseException:  # noqa: BLE001 - a traceback less is no reason to lose the message
        return "(no traceback: it could not be formatted)"


@dataclass(slots=True)
class _Chain:
    """Formats errors and what led to them, each once."""

    redaction: Redaction
    seen: set[int]

    def lines(self, error: BaseException) -> Iterator[str]:
        """Yield the lines of *error*, after those of what led to it."""
        links = list(islice(self._links(error), _MOST_LINKS))
        for link, joint in reversed(links):
            yield from self._error_lines(link)
            yield joint

    def _links(self, error: BaseException) -> Iterator[tuple[BaseException, str]]:
        """Yield *error* and what led to it, each with the words that follow it in print."""
        current = error
        joint = ""
        while id(current) not in self.seen and len(self.seen) < _MOST_ERRORS:
            self.seen.add(id(current))
            yield current, joint
            earlier = _attribute(current, "__cause__")
            joint = _CAUSE
            if earlier is None and not _attribute(current, "__suppress_context__"):
                earlier = _attribute(current, "__context__")
                joint = _CONTEXT
            if not isinstance(earlier, BaseException):
                return
            current = earlier

    def _error_lines(self, error: BaseException) -> Iterator[str]:
        frames = traceback.walk_tb(error.__traceback__)
        stack = traceback.StackSummary.extract(frames, limit=-_MOST_FRAMES)
        if stack:
            yield "Traceback (most recent call last):\n"
            yield shown_code("".join(stack.format()), TRACEBACK_LIMIT, self.redaction)
        name = type_name(error)
        message = self._words(_message_in_traceback(error))
        yield f"{name}: {message}\n" if message else f"{name}\n"
        for note in _notes(error):
            yield f"{self._words(note)}\n"
        yield from self._group_lines(error)

    def _group_lines(self, error: BaseException) -> Iterator[str]:
        is_group = isinstance(error, BaseExceptionGroup)
        members = _attribute(error, "exceptions") if is_group else None
        for place, member in enumerate(
            members if isinstance(members, tuple) else (), start=1
        ):
            if len(self.seen) >= _MOST_ERRORS:
                yield f"  ... errors from {place} on are left out ...\n"
                return
            yield f"  +---------------- {place} ----------------\n"
            inner = "".join(self.lines(member))
            yield "".join(f"  | {line}\n" for line in inner.splitlines())

    def _words(self, said: object) -> str:
        return shown_text(said, MESSAGE_LIMIT, self.redaction)

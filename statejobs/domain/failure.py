"""What is kept of an error: clean, bounded, redacted. Nothing here can fail."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

MESSAGE_LIMIT = 8_192
TRACEBACK_LIMIT = 65_536
MASK = "***"

_TYPE_LIMIT = 200
_WINDOW = 131_072  # characters at each end that are looked at; more would take seconds
_MARKER_ROOM = 64
_MOST_ERRORS = 50
_MOST_LINKS = 10
_MOST_NOTES = 20
_MOST_FRAMES = 1_000

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"

_SECRET_WORD = r"(?:passw(?:or)?d|pwd|secret|token|api[_-]?key|authorization)"  # noqa: S105 - a pattern
_SECRET_NAME = re.compile(_SECRET_WORD, re.IGNORECASE)
# Every repeat is bounded or cannot be re-entered: a message of an attacker must not cost seconds.
_SECRET_VALUE = re.compile(
    rf"""({_SECRET_WORD}[\w-]{{0,40}}\\{{0,4}}["']?\s{{0,5}}[:=]\s{{0,5}})
    (?: [bru]{{0,2}}"(?:[^"\\\n]|\\.)*"?
      | [bru]{{0,2}}'(?:[^'\\\n]|\\.)*'?
      | \\{{1,4}}["'][^"'\\\n]*
      | (?:(?:bearer|basic|digest|token)\s{{1,5}})?[^\s"'&;]+
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_URL_PASSWORD = re.compile(r"""(://[^\s:/@"']{0,200}:)[^\s"'/]{1,500}@""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as text that any database stores."""

    error_type: str
    message: str
    traceback: str


_FALLBACK = Failure(
    error_type="UnknownError",
    message="(the error could not be described)",
    traceback="(no traceback: the error could not be described)",
)


def describe_failure(error: BaseException) -> Failure:
    """Describe *error*; never raises, whatever the error does.

    The message holds at most 8 kB of UTF-8 and the traceback 64 kB, head and tail kept. What
    stands after the name of a secret, and the password of a URL, is masked.
    """
    try:
        return Failure(
            error_type=clean_text(_type_name(error), _TYPE_LIMIT),
            message=shown_text(_message(error), MESSAGE_LIMIT),
            traceback=shown_text(_traceback(error), TRACEBACK_LIMIT),
        )
    except BaseException:  # noqa: BLE001 - recording a failure cannot fail
        return _FALLBACK


def clean_text(text: object, limit: int) -> str:
    """Return *text* as UTF-8 without NUL, in at most *limit* bytes; never raises."""
    try:
        head, tail, left_out = _window(_plain(text), max(limit, _WINDOW))
        return _bounded(_encodable(head), _encodable(tail), left_out, limit)
    except BaseException:  # noqa: BLE001 - as above
        return _unprintable(text)[: max(limit, 0)]


def shown_text(text: object, limit: int) -> str:
    """Return *text* like `clean_text`, secrets masked; never raises."""
    try:
        head, tail, left_out = _window(_plain(text), max(limit, _WINDOW))
        return _bounded(_redact(_encodable(head)), _redact(_encodable(tail)), left_out, limit)
    except BaseException:  # noqa: BLE001 - as above
        return _unprintable(text)[: max(limit, 0)]


def is_secret_name(name: str) -> bool:
    """Whether a parameter of this name should not be shown."""
    return _SECRET_NAME.search(name) is not None


def _plain(text: object) -> str:
    """Return exactly a str: a subclass could override what is called next."""
    return str.__str__(text if isinstance(text, str) else str(text))


def _window(text: str, size: int) -> tuple[str, str, int]:
    if len(text) <= 2 * size:
        return text, "", 0
    return text[:size], text[-size:], len(text) - 2 * size


def _encodable(text: str) -> str:
    return text.replace("\0", "\u2400").encode("utf-8", "backslashreplace").decode("utf-8")


def _redact(text: str) -> str:
    return _URL_PASSWORD.sub(rf"\1{MASK}@", _SECRET_VALUE.sub(rf"\1{MASK}", text))


def _bounded(head: str, tail: str, left_out: int, limit: int) -> str:
    """Join both ends within *limit* bytes, with a marker where characters are missing."""
    whole = (head + tail).encode()
    if len(whole) <= limit and not left_out:
        return head + tail
    half = (limit - _MARKER_ROOM) // 2
    if half <= 0:
        return whole[: max(limit, 0)].decode(errors="ignore")
    first = (head if tail else head + tail).encode()[:half].decode(errors="ignore")
    last = (tail or head).encode()[-half:].decode(errors="ignore")
    missing = left_out + len(head) + len(tail) - len(first) - len(last)
    return f"{first}\n... {missing} characters left out ...\n{last}"


def _unprintable(value: object) -> str:
    try:
        return _encodable(f"(unprintable {_type_name(value)})")
    except BaseException:  # noqa: BLE001 - as above
        return "(unprintable)"


def _type_name(error: object) -> str:
    kind = type(error)
    try:
        name, module = _plain(kind.__qualname__), _plain(kind.__module__)
    except BaseException:  # noqa: BLE001 - a metaclass may do anything
        return _plain(type.__dict__["__name__"].__get__(kind))
    return name if module in {"builtins", "__main__"} else f"{module}.{name}"


def _message(error: BaseException) -> str:
    try:
        return _plain(error)
    except BaseException:  # noqa: BLE001 - __str__ is the user's
        return _unprintable(error)


def _attribute(error: BaseException, name: str) -> object:
    try:
        return getattr(error, name, None)
    except BaseException:  # noqa: BLE001 - a property may raise
        return None


def _traceback(error: BaseException) -> str:
    """Format like the interpreter, but with every part bounded; locals are never captured."""
    try:
        return "".join(_chain_lines(error, set()))
    except BaseException:  # noqa: BLE001 - a traceback less is no reason to lose the message
        return "(no traceback: it could not be formatted)"


def _chain_lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    links = list(islice(_links(error, seen), _MOST_LINKS))
    for link, joint in reversed(links):
        yield from _error_lines(link, seen)
        yield joint


def _links(error: BaseException, seen: set[int]) -> Iterator[tuple[BaseException, str]]:
    """Yield *error* and what led to it, each with the words that follow it in print."""
    current, joint = error, ""
    while id(current) not in seen and len(seen) < _MOST_ERRORS:
        seen.add(id(current))
        yield current, joint
        earlier, joint = _attribute(current, "__cause__"), _CAUSE
        if earlier is None and not _attribute(current, "__suppress_context__"):
            earlier, joint = _attribute(current, "__context__"), _CONTEXT
        if not isinstance(earlier, BaseException):
            return
        current = earlier


def _error_lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    frames = traceback.walk_tb(error.__traceback__)
    stack = traceback.StackSummary.extract(frames, limit=-_MOST_FRAMES)
    if stack:
        yield "Traceback (most recent call last):\n"
        yield clean_text("".join(stack.format()), TRACEBACK_LIMIT)
    name, message = _type_name(error), clean_text(_message(error), MESSAGE_LIMIT)
    yield f"{name}: {message}\n" if message else f"{name}\n"
    notes = _attribute(error, "__notes__")
    for note in notes[:_MOST_NOTES] if isinstance(notes, list) else ():
        yield f"{clean_text(note, MESSAGE_LIMIT)}\n"
    yield from _group_lines(error, seen)


def _group_lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    members = _attribute(error, "exceptions") if isinstance(error, BaseExceptionGroup) else None
    for place, member in enumerate(members if isinstance(members, tuple) else (), start=1):
        if len(seen) >= _MOST_ERRORS:
            yield f"  ... errors from {place} on are left out ...\n"
            return
        yield f"  +---------------- {place} ----------------\n"
        inner = "".join(_chain_lines(member, seen))
        yield "".join(f"  | {line}\n" for line in inner.splitlines())

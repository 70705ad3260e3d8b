"""Text that any database and any log can hold: clean, bounded, redacted. Nothing here can fail.

Every text of ours that somebody else chose (a reason, an actor, a message) goes through here.
"""

from __future__ import annotations

from collections.abc import Callable

from statejobs.values.redaction import DEFAULT, Redaction

REASON_LIMIT = 2_048
"""Most bytes of a reason: why a job, an attempt or a move ended as it did."""
NAME_LIMIT = 512
"""Most bytes of a name that we do not check otherwise: of an actor, a tenant, a tag, a host."""

_WINDOW = 131_072  # characters at each end that are looked at; more would take seconds
_MARKER_ROOM = 64


def clean_text(text: object, limit: int) -> str:
    """Return *text* as UTF-8 without NUL, in at most *limit* bytes; never raises."""
    if type(text) is str and len(text) <= limit and text.isascii() and "\0" not in text:
        return text  # as nearly all are
    try:
        head, tail, left_out = _window(plain(text), max(limit, _WINDOW))
        return _bounded(_encodable(head), _encodable(tail), left_out, limit)
    except BaseException:  # noqa: BLE001 - to record something cannot fail
        return unprintable(text)[: max(limit, 0)]


def shown_text(text: object, limit: int, redaction: Redaction = DEFAULT) -> str:
    """Return *text* like `clean_text`, secrets masked; never raises."""
    return _shown(text, limit, redaction.text)


def shown_code(text: object, limit: int, redaction: Redaction = DEFAULT) -> str:
    """Return lines of source like `shown_text`; never raises."""
    return _shown(text, limit, redaction.code)


def plain(text: object) -> str:
    """Return exactly a str: a subclass could override what is called next."""
    return str.__str__(text if isinstance(text, str) else str(text))


def unprintable(value: object) -> str:
    """Return what is shown of something whose `__str__` raises."""
    try:
        return _encodable(f"(unprintable {type_name(value)})")
    except BaseException:  # noqa: BLE001 - as above
        return "(unprintable)"


def type_name(value: object) -> str:
    """Return the name of the type of *value*, with its module unless that says nothing."""
    kind = type(value)
    try:
        name = plain(kind.__qualname__)
        module = plain(kind.__module__)
    except BaseException:  # noqa: BLE001 - a metaclass may do anything
        return plain(type.__dict__["__name__"].__get__(kind))
    return name if module in {"builtins", "__main__"} else f"{module}.{name}"


def _shown(text: object, limit: int, redact: Callable[[str], str]) -> str:
    try:
        head, tail, left_out = _window(plain(text), max(limit, min(4 * limit, _WINDOW)))
        return _bounded(
            redact(_encodable(head)), redact(_encodable(tail)), left_out, limit
        )
    except BaseException:  # noqa: BLE001 - to record something cannot fail
        return unprintable(text)[: max(limit, 0)]


def _window(text: str, size: int) -> tuple[str, str, int]:
    if len(text) <= 2 * size:
        return text, "", 0
    return text[:size], text[-size:], len(text) - 2 * size


def _encodable(text: str) -> str:
    return (
        text.replace("\0", "\u2400").encode("utf-8", "backslashreplace").decode("utf-8")
    )


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

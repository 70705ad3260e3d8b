"""Text that any database and any log can hold: clean, bounded, redacted. Nothing here can fail.

Every text of ours that somebody else chose (a reason, an actor, a message) goes through here.
"""

from __future__ import annotations

import re

REASON_LIMIT = 2_048
"""Most bytes of a reason: why a job, an attempt or a move ended as it did."""
NAME_LIMIT = 512
"""Most bytes of a name that we do not check otherwise: of an actor, a tenant, a tag, a host."""
MASK = "***"

_WINDOW = 131_072  # characters at each end that are looked at; more would take seconds
_MARKER_ROOM = 64

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


def clean_text(text: object, limit: int) -> str:
    """Return *text* as UTF-8 without NUL, in at most *limit* bytes; never raises."""
    if type(text) is str and len(text) <= limit and text.isascii() and "\0" not in text:
        return text  # as nearly all are
    try:
        head, tail, left_out = _window(plain(text), max(limit, _WINDOW))
        return _bounded(_encodable(head), _encodable(tail), left_out, limit)
    except BaseException:  # noqa: BLE001 - to record something cannot fail
        return unprintable(text)[: max(limit, 0)]


def shown_text(text: object, limit: int) -> str:
    """Return *text* like `clean_text`, secrets masked; never raises."""
    try:
        head, tail, left_out = _window(plain(text), max(limit, _WINDOW))
        return _bounded(_redact(_encodable(head)), _redact(_encodable(tail)), left_out, limit)
    except BaseException:  # noqa: BLE001 - as above
        return unprintable(text)[: max(limit, 0)]


def is_secret_name(name: str) -> bool:
    """Whether a parameter of this name should not be shown."""
    return _SECRET_NAME.search(name) is not None


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
        name, module = plain(kind.__qualname__), plain(kind.__module__)
    except BaseException:  # noqa: BLE001 - a metaclass may do anything
        return plain(type.__dict__["__name__"].__get__(kind))
    return name if module in {"builtins", "__main__"} else f"{module}.{name}"


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

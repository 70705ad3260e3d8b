"""Values of the wrong kind, refused where they are given: what, where, and what to write."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from reprlib import repr as short
from typing import Any

from statejobs.errors import WrongValueError
from statejobs.values.article import indefinite
from statejobs.values.whole import is_whole


def check_span(where: str, value: object, *, or_none: bool = False) -> None:
    """Refuse a *value* that is no `timedelta`, such as a number without a unit."""
    if isinstance(value, timedelta) or (or_none and value is None):
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    seconds = value if is_number else 30
    raise WrongValueError(
        f"{where} must be a timedelta, not {short(value)}",
        fix=f"say timedelta(seconds={seconds})",
    )


def check_whole(
    where: str, value: object, *, least: int = 0, or_none: bool = False
) -> None:
    """Refuse a *value* that is no whole number, or less than *least*."""
    if (or_none and value is None) or (is_whole(value) and value >= least):
        return
    raise WrongValueError(
        f"{where} must be a whole number from {least} on, not {short(value)}",
        fix=f"say {max(least, 10)}",
    )


def check_number(where: str, value: object) -> None:
    """Refuse a *value* that is no number, such as a text or a `timedelta`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return
    raise WrongValueError(
        f"{where} must be a number, not {short(value)}",
        fix="say 5 or 0.5",
    )


def check_text(where: str, value: object, *, example: str) -> None:
    """Refuse a *value* that is no text."""
    if not isinstance(value, str):
        raise WrongValueError(
            f"{where} must be text, not {short(value)}",
            fix=f"say {example!r}",
        )


def check_job_id(where: str, value: object) -> None:
    """Refuse a *value* that is not the number of a job."""
    if is_whole(value):
        return
    example = "1"
    if isinstance(value, str) and value.strip().isdecimal():
        example = str(int(value))
    for name in ("job_id", "id"):
        if hasattr(value, name):
            example = f"….{name} of it"
            break
    raise WrongValueError(
        f"{where} takes the number of a job, not {short(value)}",
        fix=f"give {example}",
    )


def members_of(where: str, value: object, *, example: str) -> list[Any]:
    """Return the members of a collection; refuse one thing where several may be.

    A text is one thing, though Python takes it for a collection of its letters.
    """
    is_one = isinstance(value, str | bytes | type) or not isinstance(value, Iterable)
    if is_one:
        raise WrongValueError(
            f"{where} takes a collection, not {short(value)} alone",
            fix=f"say {example}",
        )
    return list(value)  # type: ignore[call-overload, no-any-return]


def words_of(where: str, value: object, *, example: str) -> tuple[str, ...]:
    """Return the words of a collection of texts."""
    words = members_of(where, value, example=example)
    for word in words:
        if not isinstance(word, str):
            raise WrongValueError(
                f"{where}: each must be text, not {short(word)}", fix=f"say {example}"
            )
    return tuple(words)


def check_kind(where: str, value: object, kind: type, *, example: str) -> None:
    """Refuse a *value* that is no instance of *kind*."""
    if isinstance(value, kind):
        return
    raise WrongValueError(
        f"{where} must be {indefinite(kind.__name__)}, not {short(value)}",
        fix=f"say {example}",
    )


def check_class(where: str, value: object, base: type, *, example: str) -> None:
    """Refuse a *value* that is no class, or not one of *base*."""
    if isinstance(value, type) and issubclass(value, base):
        return
    raise WrongValueError(
        f"{where} must be a class of {base.__name__}, not {short(value)}",
        fix=f"say {example}",
    )


def check_mapping(where: str, value: object, *, example: str) -> None:
    """Refuse a *value* that maps nothing, such as a list of names."""
    if isinstance(value, Mapping):
        return
    names = (
        value if isinstance(value, Collection) and not isinstance(value, str) else ()
    )
    words = [name for name in names if isinstance(name, str)]
    shown = (
        "{" + ", ".join(f"{name!r}: 10" for name in words) + "}" if words else example
    )
    raise WrongValueError(
        f"{where} must be a mapping, not {short(value)}",
        fix=f"say {shown}",
    )


def check_callable(where: str, value: object, *, example: str) -> None:
    """Refuse a *value* that cannot be called."""
    if not callable(value):
        raise WrongValueError(
            f"{where} must be callable, not {short(value)}",
            fix=f"say {example}",
        )

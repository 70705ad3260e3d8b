"""Checks of options: each returns what is kept of a value, or says why nobody can mean it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from reprlib import repr as short
from typing import Any

from statejobs.errors import DefinitionError, WrongValueError, did_you_mean
from statejobs.values.backoff import LONGEST, Backoff, backoff_of
from statejobs.values.call_checks import check_call
from statejobs.values.kinds import check_span, check_text, words_of
from statejobs.values.levels import LEVELS
from statejobs.values.loading import options_in
from statejobs.values.meta import meta_text, read_meta
from statejobs.values.option import Check
from statejobs.values.text import NAME_LIMIT, clean_text
from statejobs.values.whole import is_whole

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_LONGEST_KEY = 200
_LONGEST_QUEUE = 100


def key(*, place: str | None = None) -> Check:
    """Check a key, in which *place* stands for the name of a resource."""

    def check(where: str, name: str, value: Any) -> str:
        check_text(f"{where}: {name}", value, example="order.charge")
        return _stable(where, name, value, longest=_LONGEST_KEY, place=place)

    return check


def task_key(where: str, name: str, value: Any) -> str:
    """Check the key of a task; who leaves out the parentheses of `@task` gives its function."""
    if isinstance(value, str):
        return _stable(where, name, value, longest=_LONGEST_KEY)
    raise DefinitionError(
        "@task",
        f"its key is {short(value)}, not text",
        why="a stored job names its work by the key, which survives renames of code",
        fix=f'say @task("{getattr(value, "__name__", "report.daily")}")',
    )


def keys(*, place: str | None = None) -> Check:
    """Check several keys, as `key` checks one."""

    def check(where: str, name: str, value: Any) -> tuple[str, ...]:
        words = words_of(f"{where}: {name}=", value, example='["old.key"]')
        for word in words:
            _stable(where, "key", word, longest=_LONGEST_KEY, place=place)
        return words

    return check


def queue(where: str, name: str, value: Any) -> str:
    """Check the name of a queue."""
    check_text(f"{where}: {name}", value, example="default")
    return _stable(where, name, value, longest=_LONGEST_QUEUE)


def whole(
    least: int, most: int | None = None, *, why: str, fix: str, or_none: bool = False
) -> Check:
    """Check a whole number."""

    def check(where: str, name: str, value: Any) -> int | None:
        if value is None and or_none:
            return None
        if is_whole(value) and least <= value and (most is None or value <= most):
            return value
        raise DefinitionError(
            where, f"{name}={short(value)}", why=why, fix=fix.format(name=name)
        )

    return check


tried = whole(1, why="a job needs at least one attempt", fix="give {name}=1 or more")
"""Check how many attempts there are."""


def span(*, why: str, fix: str) -> Check:
    """Check a positive duration, or None; what is longer than any clock can wait is cut."""

    def check(where: str, name: str, value: Any) -> timedelta | None:
        check_span(f"{where}: {name}", value, or_none=True)
        if value is None:
            return None
        if value <= timedelta():
            raise DefinitionError(where, f"{name}={value}", why=why, fix=fix)
        kept: timedelta = min(value, LONGEST)
        return kept

    return check


def timeout(where: str, name: str, value: Any) -> Any:
    """Check how long an attempt may take: a positive duration, a function of the job, or None."""
    if callable(value):
        why = "it is asked of each job how long an attempt of it may take"
        fix = f"{name}=lambda job: timedelta(minutes=job.attempt)"
        check_call(where, f"{name}=", value, given=1, why=why, fix=fix)
        return value
    return _positive(where, name, value)


_positive = span(
    why="every attempt would end before it began",
    fix="give a positive timedelta, or leave it out",
)


def one_of(*known: str) -> Check:
    """Check a word of a closed set."""

    def check(where: str, name: str, value: Any) -> str:
        check_text(f"{where}: {name}", value, example=known[0])
        if value in known:
            return str(value)
        raise DefinitionError(
            where,
            f"{name}={short(value)}",
            why=f"it is one of {', '.join(map(repr, known))}",
            fix=did_you_mean(value, known),
        )

    return check


def cron(where: str, name: str, value: Any) -> str:
    """Check a cron expression; whether it ever runs depends on the time zone, too."""
    check_text(f"{where}: {name}", value, example="0 */6 * * *")
    return str(value)


def timezone(where: str, name: str, value: Any) -> str:
    """Check the name of a time zone; the calendar looks whether there is one."""
    check_text(f"{where}: {name}", value, example="Europe/Prague")
    return str(value)


def backoff(where: str, _name: str, value: Any) -> Backoff:
    """Return the backoff for which the value stands."""
    try:
        return backoff_of(value)
    except (TypeError, ValueError) as error:
        raise DefinitionError(
            where,
            str(error),
            why="it says how long to wait before the next attempt",
            fix="give a timedelta, a list of them, or a function (attempt, error) -> timedelta",
        ) from error


def actor(where: str, name: str, value: Any) -> str | None:
    """Return the name of an actor as it can be stored; None names nobody."""
    if value is None:
        return None
    check_text(f"{where}: {name}", value, example="system:billing")
    if value.strip():
        return clean_text(value, NAME_LIMIT)
    raise DefinitionError(
        where,
        f"{name}={value!r} names nobody",
        why="it is stored with jobs and history for whom nobody asked",
        fix='say "system:billing", or leave it out',
    )


def tags(where: str, name: str, value: Any) -> tuple[str, ...]:
    """Return words that can be stored."""
    words = words_of(f"{where}: {name}=", value, example='["nightly"]')
    return tuple(clean_text(word, NAME_LIMIT) for word in words)


def meta(*, or_function: bool = False) -> Check:
    """Return JSON for programs, as a copy that nobody changes; or a function of the record."""

    def check(where: str, name: str, value: Any) -> Any:
        if value is None:
            return None
        if or_function and not isinstance(value, Mapping) and callable(value):
            why = "it says for each record what is stored with its job"
            fix = f"{name}=lambda order: {{'channel': order.channel}}"
            check_call(where, f"{name}=", value, given=1, why=why, fix=fix)
            return value
        return read_meta(meta_text(where, name, value))

    return check


def load(where: str, name: str, value: Any) -> Any:
    """Return loader options as a tuple, or the function of a class that returns some."""
    if value is None:
        return None
    if callable(value):
        why = "it is asked once what is loaded with the records of a class"
        fix = f"{name}=lambda cls: selectinload(cls.lines)"
        check_call(where, f"{name}=", value, given=1, why=why, fix=fix)
        return value
    try:
        return options_in(value)
    except WrongValueError as refused:
        raise DefinitionError(
            where,
            f"{name}= cannot be used: {refused.what}",
            why="it says what is loaded with a record when an attempt begins",
            fix=f"{name}=lambda cls: selectinload(cls.lines)",
        ) from None


def log_level(where: str, name: str, value: Any) -> int:
    """Return the number of a level of the log, which may be given by its name."""
    if is_whole(value) and value > 0:
        number: int = value
        return number
    known = LEVELS.get(value) if isinstance(value, str) else None
    if known is None:
        hint = did_you_mean(value.lower(), LEVELS) if isinstance(value, str) else ""
        raise DefinitionError(
            where,
            f"{name}={short(value)} is no level of the log",
            why="at this level a line of the log tells how an attempt ended",
            fix=hint or f"give a level of logging, or one of {', '.join(LEVELS)}",
        )
    return known


def flag(*, why: str) -> Check:
    """Check what is so or not."""

    def check(where: str, name: str, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        fix = f"give {name}=True, or leave it out"
        raise DefinitionError(where, f"{name}={short(value)}", why=why, fix=fix)

    return check


def function(*, why: str, fix: str, or_mapping: bool = False) -> Check:
    """Check a function of one argument, or None."""

    def check(where: str, name: str, value: Any) -> Any:
        if value is None or (or_mapping and isinstance(value, Mapping)):
            return value
        check_call(where, f"{name}=", value, given=1, why=why, fix=fix)
        return value

    return check


def _stable(
    where: str, what: str, value: str, *, longest: int, place: str | None = None
) -> str:
    name = value.replace(place, "resource") if place else value
    if NAME.fullmatch(name) and len(name) <= longest:
        return value
    raise DefinitionError(
        where,
        f"{what} {name!r} is not a stable name",
        why="it is stored with every job, and typed by people on the command line",
        fix=f"use at most {longest} letters, digits, '.', '_' and '-', like 'order.charge'",
    )

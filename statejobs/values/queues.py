"""Queues and their limits: of an app, of its domains, of one worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from statejobs.errors import ConfigurationError, did_you_mean
from statejobs.values.kinds import check_mapping, check_text, members_of
from statejobs.values.whole import is_whole

USUAL = {"default": 10}
"""The queues of an app that names none."""
REST = "*"
"""All other queues of the app, where a worker is told which it serves."""


def check_queues(queues: Mapping[str, int]) -> dict[str, int]:
    """Return *queues* (name → how many jobs at once) when they can be used.

    Raises:
        ConfigurationError: None, or a limit below 1.
        WrongValueError: No mapping, or a name that is no text.
    """
    checked = check_limits("queues=", queues)
    if not checked:
        raise ConfigurationError(
            "the app has no queues",
            why="a worker takes jobs from queues only",
            fix="say queues={'default': 10}, or leave queues out",
        )
    return checked


def check_limits(where: str, queues: Mapping[str, int]) -> dict[str, int]:
    """Return *queues*, given at *where*, when each can be used; there may be none.

    Raises:
        ConfigurationError: A limit below 1.
        WrongValueError: No mapping, or a name that is no text.
    """
    check_mapping(where, queues, example="{'default': 10}")
    for name, limit in queues.items():
        check_text(f"{where}: each name", name, example="default")
        if not name or not is_whole(limit) or limit < 1:
            raise ConfigurationError(
                f"queue {name!r}: limit {limit!r} must be a whole number from 1 on",
                why="it is how many jobs of the queue a worker runs at once",
                fix="leave the queue out to not serve it",
            )
    return dict(queues)


def join_queues(
    own: Mapping[str, int] | None, theirs: Mapping[str, Mapping[str, int]]
) -> dict[str, int]:
    """Return the queues of an app: its own, and those of its domains.

    Args:
        own: What the app was told; None when it was told nothing.
        theirs: Domain → queue → limit.

    Raises:
        ConfigurationError: One has two limits; or there is none.
        WrongValueError: No mapping, or a name that is no text.
    """
    joined = {} if own is None else check_limits("queues=", own)
    said_by = dict.fromkeys(joined, "the app")
    for domain, queues in theirs.items():
        for name, limit in queues.items():
            if joined.setdefault(name, limit) != limit:
                raise ConfigurationError(
                    f"queue {name!r} has two limits: {joined[name]} by {said_by[name]}, "
                    f"{limit} by domain {domain!r}",
                    why="a worker runs so many of its jobs at once, whosever they are",
                    fix="name the queue in one place, or with one limit",
                )
            said_by.setdefault(name, f"domain {domain!r}")
    if own is None:
        joined = {**USUAL, **joined}
    return check_queues(joined)


def served_queues(
    chosen: Mapping[str, int | None], queues: Mapping[str, int]
) -> dict[str, int]:
    """Return which of *queues* a worker serves that was told *chosen*, and with what limits.

    Args:
        chosen: Queue → limit; None stands for that of the app, and `REST` for the other queues.
        queues: Of the app.
    """
    usual = next(iter(queues.values()))
    named = {
        name: queues.get(name, usual) if limit is None else limit
        for name, limit in chosen.items()
        if name != REST
    }
    if REST not in chosen:
        return named
    others = {name: limit for name, limit in queues.items() if name not in named}
    limit = chosen[REST]
    return {**named, **(others if limit is None else dict.fromkeys(others, limit))}


def known_queues(
    where: str, given: Sequence[str] | None, queues: Mapping[str, int]
) -> list[str]:
    """Return which of *queues*, those of an app, are *given*; all where none is.

    Raises:
        ConfigurationError: One is not among them.
    """
    if given is None:
        return list(queues)
    names = members_of(where, given, example="queues=['default']")
    for name in names:
        if name not in queues:
            raise ConfigurationError(
                f"no queue {name!r} in this app; {did_you_mean(name, queues)}",
                why="it is not in the `queues` of the app",
                fix="name one that is, or add it there",
            )
    return names or list(queues)

"""What an error of a database says, without the values that it repeats.

Drivers and SQLAlchemy quote parameters and whole rows in their messages. Those are the user's, and
messages go to logs, to history and to whoever looks at a job.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_PARAMETERS = re.compile(r"\n\[parameters: .*?\](?=\n\(Background on this error|\Z)", re.DOTALL)
_QUOTED = re.compile(r'(: )".*"', re.DOTALL)
_ABOUT_VALUES = "22"  # the class of SQLSTATEs whose messages quote the value itself
_MOST_LINKS = 10
_POOLED = (
    "A pooler gave this session to someone else between two statements: behind PgBouncer in "
    "transaction mode, add ?prepare_threshold=none to the URL of the database."
)
_ADVICE = {"26000": _POOLED, "42P05": _POOLED}  # a prepared statement is missing; exists already


def without_values(error: BaseException, text: str) -> str:
    """Return *text*, which is what *error* says, without values; with advice where there is one.

    Its words may be those of the error that led to it.
    """
    advice = dict.fromkeys(map(_advice, (links := [*_links(error)])))
    for link in links:
        if hasattr(link, "hide_parameters"):
            text = _PARAMETERS.sub("", text)
        for part, shown in _parts(link):
            text = text.replace(part, shown)
    return "\n".join([text, *(said for said in advice if said and said not in text)])


def _links(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, what its driver raised, and what led to it."""
    current: Any = error
    for _ in range(_MOST_LINKS):
        yield current
        driver = getattr(current, "orig", None)
        if isinstance(driver, BaseException):
            yield driver
        current = current.__cause__ or current.__context__
        if current is None:
            return


def _advice(error: BaseException) -> str | None:
    return _ADVICE.get(_state(error) or "")


def _state(error: BaseException) -> str | None:
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


def _parts(error: BaseException) -> Iterator[tuple[str, str]]:
    """Yield what to replace in a message, with what takes its place."""
    told: Any = getattr(error, "diag", None)
    state = _state(error)
    if told is None or state is None:
        return
    if told.message_detail:
        yield f"\nDETAIL:  {told.message_detail}", ""
    if not state.startswith(_ABOUT_VALUES):
        return
    if told.context:
        yield f"\nCONTEXT:  {told.context}", ""
    if told.message_primary:
        yield told.message_primary, _QUOTED.sub(r"\1(not shown)", told.message_primary)

"""What an error of a database says, without the values and the statement that it repeats.

Drivers and SQLAlchemy quote parameters and whole rows in their messages. Those are the user's, and
messages go to logs, to history and to whoever looks at a job. A statement fills a screen, and most
are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_PARAMETERS = re.compile(
    r"\n\[parameters: .*?\](?=\n\(Background on this error|\Z)", re.DOTALL
)
_BACKGROUND = re.compile(r"\n\(Background on this error at: \S{1,200}\)")
_QUOTED = re.compile(r'(: )".*"', re.DOTALL)
_ABOUT_VALUES = "22"  # the class of SQLSTATEs whose messages quote the value itself
_MOST_LINKS = 10
_POOLED = (
    "A pooler gave this session to someone else between two statements: behind PgBouncer in "
    "transaction mode, add ?prepare_threshold=none to the URL of the database."
)
# a prepared statement is missing; exists already
_ADVICE = {
    "26000": _POOLED,
    "42P05": _POOLED,
}


def is_of_statement(error: BaseException) -> bool:
    """Return whether SQLAlchemy raised *error* for a statement, which its message then quotes."""
    return hasattr(error, "hide_parameters")


def said_by_database(error: BaseException) -> str | None:
    """Return the words of the driver in *error*, and what explains them.

    None when it is none of a statement's.
    """
    words = error.args[0] if is_of_statement(error) and error.args else None
    if not isinstance(words, str):
        return None
    explained = (
        detail for detail in getattr(error, "detail", ()) if isinstance(detail, str)
    )
    return without_values(error, "\n".join([words, *explained]))


def without_statements(error: BaseException, text: str) -> str:
    """Return *text* without the statements that *error*, and what led to it, quote in it."""
    for link in _links(error):
        if is_of_statement(link):
            text = text.replace(f"\n[SQL: {getattr(link, 'statement', None)}]", "")
            text = _BACKGROUND.sub("", text)
    return text


def without_values(error: BaseException, text: str) -> str:
    """Return *text*, which is what *error* says, without values; with advice where there is one.

    Its words may be those of the error that led to it.
    """
    advice = dict.fromkeys(map(_advice, (links := [*_links(error)])))
    for link in links:
        if is_of_statement(link):
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

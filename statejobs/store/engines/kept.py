"""A transaction that only its keeper ends, whatever statements others send on its connection."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Protocol

KEPT = "statejobs_kept"
"""Execution option of a connection: what keeps its transaction."""
OURS = "statejobs_ours"
"""Execution option of a statement: its keeper's own."""

_NO_CODE = re.compile(
    r"""
    \b[eE]'(?:[^'\\]|\\.|'')*'   # strings
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"             # names
    | \$(\w*)\$.*?\$\1\$         # what PostgreSQL quotes by dollars
    | --[^\n]*                   # comments
    | /\*.*?\*/
    """,
    re.VERBOSE | re.DOTALL,
)
_ENDING = {"COMMIT", "END", "ABORT", "BEGIN", "START"}


class TransactionKeeper(Protocol):
    """Keeps a transaction from ending before its time."""

    def check(self, statement: str) -> None:
        """Raise if *statement*, which is about to be sent, would end the transaction."""

    def check_begin(self) -> None:
        """Raise if the transaction of the database, which is about to begin, had begun before."""

    def note_begun(self, *, is_open: bool) -> None:
        """Note that it has begun, or that what began was rolled back at once."""


@lru_cache(maxsize=2048)
def ending_in(statement: str) -> str | None:
    """Return the words by which *statement* begins or ends a transaction; None when it does not.

    As far as its text tells; those about savepoints do not.
    """
    code = _NO_CODE.sub(" ", statement)
    # of a trigger, whose body ends with END
    is_definition = code.lstrip()[:6].upper() == "CREATE"
    found = (
        words
        for words in _statements(code)
        if not (is_definition and words[0] == "END")
    )
    return next((" ".join(words) for words in found if _ends(words)), None)


def _statements(code: str) -> Iterator[list[str]]:
    """Return the first words of each statement in *code*."""
    for part in code.split(";"):
        words = part.upper().split(None, 3)[:3]
        if words:
            yield words


def _ends(words: list[str]) -> bool:
    match words[0]:
        case "ROLLBACK":
            return "TO" not in words
        case "PREPARE":
            return words[1:2] == ["TRANSACTION"]
        case first:
            return first in _ENDING


class Unended:
    """A transaction as others see it: they may look at it, and not end it."""

    def __init__(self, transaction: Any, refuse: Callable[[str], None]) -> None:
        self._transaction = transaction
        self._refuse = refuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)

    def commit(self) -> None:
        """Raise."""
        self._refuse("COMMIT")

    def rollback(self) -> None:
        """Raise."""
        self._refuse("ROLLBACK")

    close = rollback

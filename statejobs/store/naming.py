"""Names of ours in statements on tables of the user's: none meets one of theirs.

A parameter with the name of a column would be written into that column, and a CTE with the name of
a table would hide it. So all of ours begin with a mark, and nothing of theirs does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain, count
from typing import Any

from sqlalchemy import ClauseElement, Table
from sqlalchemy.sql import visitors


class Names(dict[str, str]):
    """What we call parameters, CTEs and labels: `names["was"]`."""

    def __init__(self, mark: str) -> None:
        """Let all of them begin with *mark*."""
        super().__init__()
        self._mark = mark

    def __missing__(self, name: str) -> str:
        """Return a name that was not asked for before."""
        ours = self[name] = f"{self._mark}{name}"
        return ours

    def of(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return *parameters* under these names."""
        return {self[name]: value for name, value in parameters.items()}


@lru_cache(maxsize=1024)
def names_beside(table: Table) -> Names:
    """Return names for statements that name no other table of the user's than *table*."""
    return Names(_mark_beside(_names_of(table)))


def names_within(table: Table, clauses: Iterable[ClauseElement]) -> Names:
    """Return names for statements on *table* that contain *clauses* of the user's."""
    elements = chain.from_iterable(visitors.iterate(clause) for clause in clauses)
    return Names(_mark_beside(chain(_names_of(table), *map(_names_in, elements))))


def _names_of(table: Table) -> Iterator[str]:
    yield table.name
    for column in table.columns:
        yield column.name
        yield column.key


def _names_in(element: Any) -> Iterator[str]:
    """Return what a part of a statement is called, and the table of a column."""
    for named in (element, getattr(element, "table", None)):
        for name in (getattr(named, "name", None), getattr(named, "key", None)):
            if isinstance(name, str):
                yield name


def _mark_beside(taken: Iterable[str]) -> str:
    """Return what none of *taken* begins with."""
    # With "_" behind: SQLAlchemy makes names of that form, of a table and of a column.
    beginnings = {f"{name.casefold()}_" for name in taken}
    marks = (f"sj{number or ''}_" for number in count())
    return next(m for m in marks if not any(name.startswith(m) for name in beginnings))


ALONE = Names("")
"""For statements that name no table of the user's."""

"""What a tick of a trigger would pick now: how many records, and whether an index finds them."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, Executable, Select, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ClauseElement

from statejobs.store.pages import Page, Picking, select_page

_INDEX = re.compile(
    r"Index (?:Only )?Scan(?: Backward)? using (\S+) on|Bitmap Index Scan on (\S+)"
    r"|USING (?:COVERING )?INDEX (\S+)|USING (INTEGER PRIMARY KEY)"
)


class _Explain(Executable, ClauseElement):
    """A query whose plan is asked for."""

    inherit_cache = False

    def __init__(self, query: Select[Any]) -> None:
        self.query = query


@compiles(_Explain, "postgresql")
def _explain_on_postgresql(element: _Explain, compiler: Any, **options: Any) -> str:
    return f"EXPLAIN (COSTS OFF) {compiler.process(element.query, **options)}"


@compiles(_Explain, "sqlite")
def _explain_on_sqlite(element: _Explain, compiler: Any, **options: Any) -> str:
    return f"EXPLAIN QUERY PLAN {compiler.process(element.query, **options)}"


def count_picked(connection: Connection, picking: Picking, page: Page) -> int:
    """Return how many records *page* would be of, were it as large as it takes."""
    return connection.scalar(_count(picking, page)) or 0


def plan_of_picked(
    connection: Connection, picking: Picking, page: Page
) -> tuple[str, ...]:
    """Return how the database would look for them, line by line."""
    rows = connection.execute(_Explain(_count(picking, page))).all()
    return tuple(str(row[-1]) for row in rows)


def index_in(plan: tuple[str, ...], table: str) -> str | None:
    """Return the index by which *plan* finds the rows of *table*; None where it reads all."""
    told = re.compile(rf"\b{re.escape(table)}\b")
    for number, line in enumerate(plan):
        if not told.search(line):
            continue
        # on PostgreSQL the scans of a bitmap have lines of their own below
        for part in (line, *plan[number + 1 : number + 4]):
            found = _INDEX.search(part)
            if found:
                return next(name for name in found.groups() if name)
            if "Bitmap" not in line:
                break
        return None
    return None


def _count(picking: Picking, page: Page) -> Select[Any]:
    """Count the records of a tick."""
    found = select_page(picking, page).order_by(None).limit(None).subquery()
    return select(func.count()).select_from(found)

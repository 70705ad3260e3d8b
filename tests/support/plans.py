"""Which rows a database reads for the statements that it was sent, and how it finds them."""

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import event
from sqlalchemy.engine import Engine

_LIST = re.compile(r"\(__\[POSTCOMPILE_(\w+)\]\)")
_PREPARED = re.compile(r"%\((\w+)\)s")
_SQLITE = re.compile(
    r"(?P<how>SCAN|SEARCH) (?P<table>\S+)(?: USING (?:COVERING |AUTOMATIC )*"
    r"(?P<index>INDEX \S+|INTEGER PRIMARY KEY))?(?P<bound> \(.+\))?"
)


@dataclass(frozen=True)
class Access:
    """One way into one table."""

    statement: str
    table: str
    index: str | None
    """None: the table is read from end to end."""
    is_bounded: bool
    """Whether a condition leads into the index; False where all of it is read."""

    def __str__(self):
        how = self.index if self.is_bounded else f"all of {self.index or 'it'}"
        return f"{self.table} by {how}: {' '.join(self.statement.split())}"


@contextmanager
def recording(*tables):
    """Collect the statements about *tables*, from every engine: text → parameters."""
    seen = {}

    def note(_connection, _cursor, statement, parameters, *_more):
        is_data = re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", statement)
        if is_data and any(re.search(rf"\b{table}\b", statement) for table in tables):
            first = parameters[0] if isinstance(parameters, list) else parameters
            seen.setdefault(statement, first)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def accesses(engine, seen):
    """Return how the database would read for each statement of *seen*.

    Those whose parameters are None were never sent, and are planned for any parameters.
    """
    explain = _on_sqlite if engine.dialect.name == "sqlite" else _on_postgresql
    with engine.connect() as connection:
        return [
            a for text, given in seen.items() for a in explain(connection, text, given)
        ]


def _on_sqlite(connection, statement, parameters):
    named = dict(re.findall(r"(\w+) AS (\w+)", statement))
    real = {alias: table for table, alias in named.items()}
    if parameters is None:
        statement = _LIST.sub("(?)", statement)
        parameters = (None,) * statement.count("?")
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    for *_, detail in rows:
        found = _SQLITE.match(detail)
        if found is None:
            continue
        index = found["index"] and found["index"].removeprefix("INDEX ")
        is_bounded = found["how"] == "SEARCH" and found["bound"] is not None
        yield Access(
            statement, real.get(found["table"], found["table"]), index, is_bounded
        )


def _on_postgresql(connection, statement, parameters):
    """Ask for the plan of these parameters, and for the one of any."""
    numbers = {}
    generic = _PREPARED.sub(
        lambda found: f"${numbers.setdefault(found[1], len(numbers) + 1)}",
        _LIST.sub(r"(%(\1)s)", statement),
    ).replace("%%", "%")
    driver = connection.connection.driver_connection
    answers = [
        driver.execute(f"EXPLAIN (FORMAT JSON, GENERIC_PLAN) {generic}").fetchone()[0]
    ]
    if parameters is not None:
        own = driver.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
        answers.append(own.fetchone()[0])
    for answer in answers:
        plan = json.loads(answer) if isinstance(answer, str) else answer
        for node in _nodes(plan[0]["Plan"]):
            yield from _reads(statement, node)


def _reads(statement, node):
    table, kind = node.get("Relation Name"), node["Node Type"]
    if table is None or kind == "ModifyTable":
        return
    if kind == "Bitmap Heap Scan":
        ways = [n for n in _nodes(node) if n["Node Type"] == "Bitmap Index Scan"]
    else:
        ways = [node]
    for way in ways:
        yield Access(statement, table, way.get("Index Name"), "Index Cond" in way)


def _nodes(plan):
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)

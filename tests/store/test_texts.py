"""Every column that holds a text which somebody else chose takes any text."""

import pytest
from sqlalchemy import Integer, String, Text, insert, literal, select

from statejobs.store.engines.factory import open_engine
from statejobs.store.schema import create_tables
from statejobs.store.tables import metadata
from statejobs.store.types import BigId, CleanText, UtcDateTime
from tests.support.texts import WORDS

OURS = {
    "key": "declared, and checked there",
    "queue": "declared, and checked there",
    "state": "one of ours",
    "resource": "declared, and checked there",
    "record_id": "the record's own key, which a database holds already",
    "record_source": "a declared state",
    "dedupe_key": "key and record_id",
    "args": "JSON that was checked when it was made",
    "idempotency_key": "an id of ours",
    "tags": "JSON of tags that were cleaned when they were declared",
    "owner": "an id of ours",
    "token": "an id of ours",
    "checkpoint": "JSON that was checked when it was saved",
    "meta": "JSON that was checked when it was given",
    "result": "JSON that was checked when it was returned",
    "outcome": "one of ours",
    "node": "an id of ours",
    "name": "declared, and checked there",
    "source": "a declared state",
    "target": "a declared state",
    "id": "an id of ours",
    "queues": "JSON of declared names",
    "version": "of the installed package",
    "version_num": "of the tables",
    "declares": "JSON of declared names",
    "held": "JSON of declared names and words of the database",
    "spec": "a digest of ours",
    "cursor": "the key of a record, which a database holds already",
}
"""Columns that hold what cannot be wrong, and why it cannot."""

CHOSEN = [
    (table, column)
    for table in metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, CleanText)
]


@pytest.fixture
def engine(database_url):
    opened = open_engine(database_url)
    create_tables(opened)
    yield opened
    opened.dispose()


def test_a_column_of_text_is_cleaned_or_holds_what_cannot_be_wrong():
    texts = {
        column.name
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, String | Text)
    }

    assert texts == set(OURS)


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize(
    ("table", "column"),
    CHOSEN,
    ids=[f"{table.name}.{column.name}" for table, column in CHOSEN],
)
def test_any_text_can_be_stored(engine, table, column, name):
    with engine.begin() as connection:
        connection.execute(insert(table), {**_filled(table), column.name: WORDS[name]})
        (stored,) = connection.execute(select(column)).scalars()

    assert isinstance(stored, str)
    assert "\0" not in stored
    assert len(stored.encode()) <= column.type.limit


def test_none_stays_none(engine):
    with engine.connect() as connection:
        assert connection.execute(select(literal(None, CleanText(9)))).scalar() is None


def _filled(table):
    """A row with something in every column that must have it."""
    from tests.support.clock import NOON

    row = {}
    for column in table.columns:
        if column.nullable or column.server_default is not None or column.name == "id":
            continue
        match column.type:
            case UtcDateTime():
                row[column.name] = NOON
            case Integer():
                row[column.name] = 1
            case _ if column.type is BigId:
                row[column.name] = 1
            case _:
                row[column.name] = "x"
    if "id" in table.c and isinstance(table.c.id.type, String):
        row["id"] = "x"
    return row

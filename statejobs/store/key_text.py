"""The text of a primary key, made by the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    CHAR,
    ColumnElement,
    Dialect,
    Enum,
    Integer,
    String,
    Text,
    Uuid,
    cast,
    func,
    literal_column,
)
from sqlalchemy.types import TypeDecorator

from statejobs.errors import BulkError


def key_text(
    columns: Sequence[ColumnElement[Any]], dialect: Dialect, *, where: str
) -> ColumnElement[str]:
    """Return SQL for the text of a key of *columns*, as jobs and history have it.

    Raises:
        BulkError: A column's type has no such SQL; *where* says who asked.
    """
    parts = [_part_in_sql(column, dialect, where) for column in columns]
    if len(parts) == 1:
        return parts[0]
    text: ColumnElement[str] = literal_column("'['", Text())
    for number, part in enumerate(parts):
        text = text + literal_column("','", Text()) + part if number else text + part
    return text + literal_column("']'", Text())


def _part_in_sql(
    column: ColumnElement[Any], dialect: Dialect, where: str
) -> ColumnElement[str]:
    kind = column.type.dialect_impl(dialect)
    if isinstance(kind, TypeDecorator | Enum | CHAR):
        raise _no_sql(column, where)
    if isinstance(kind, Integer):
        return cast(column, Text())
    if isinstance(kind, String):
        return _quoted(column, dialect)
    if isinstance(kind, Uuid):
        quote = literal_column("""'"'""", Text())
        return quote + _uuid_in_sql(column, dialect) + quote
    raise _no_sql(column, where)


def plain_text(
    column: ColumnElement[Any], dialect: Dialect
) -> ColumnElement[str] | None:
    """Return SQL for what `str` makes of a column's values; None where there is none."""
    kind = column.type.dialect_impl(dialect)
    if isinstance(kind, Uuid):
        return _uuid_in_sql(column, dialect)
    is_plain = isinstance(kind, Integer | String)
    if is_plain and not isinstance(kind, TypeDecorator | Enum | CHAR):
        return cast(column, Text())
    return None


def _quoted(text: ColumnElement[Any], dialect: Dialect) -> ColumnElement[str]:
    if dialect.name == "sqlite":
        return func.json_quote(cast(text, Text()), type_=Text())
    return cast(func.to_json(cast(text, Text())), Text())


def _uuid_in_sql(column: ColumnElement[Any], dialect: Dialect) -> ColumnElement[str]:
    text: ColumnElement[str] = cast(column, Text())
    if dialect.name == "sqlite" or not getattr(column.type, "native_uuid", True):
        # stored as 32 hexadecimal digits
        spans = (
            (1, 8),
            (9, 4),
            (13, 4),
            (17, 4),
            (21, 12),
        )
        dash = literal_column("'-'", Text())
        text = func.substr(text, *spans[0], type_=Text())
        for span in spans[1:]:
            text = text + dash + func.substr(cast(column, Text()), *span, type_=Text())
    return text


def _no_sql(column: ColumnElement[Any], where: str) -> BulkError:
    name = getattr(column, "name", str(column))
    return BulkError(
        where,
        f"its key column {name!r} is {column.type!r}, whose text in jobs SQL cannot make",
        why="bulk names the records of jobs and history in SQL, for integers, text and UUIDs",
        fix="fire the transition on each record",
    )

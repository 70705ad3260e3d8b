"""The one canonical text of a primary key."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
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
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeDecorator

from statejobs.errors import BulkError, NotFoundError


def encode_identity(values: Sequence[Any]) -> str:
    """Return a primary key as canonical JSON: `42`, `"a"`, or `[1,"a"]` when composite."""
    content = values[0] if len(values) == 1 else list(values)
    return msgspec.json.encode(content, order="deterministic").decode()


def identity_in_sql(
    columns: Sequence[ColumnElement[Any]], dialect: Dialect, *, where: str
) -> ColumnElement[str]:
    """Return SQL for what `encode_identity` returns of the values of *columns*.

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


def decode_identity(mapper: Mapper[Any], record_id: str) -> tuple[Any, ...]:
    """Return the primary key that *record_id* stands for, typed by the mapper's columns.

    Raises:
        NotFoundError: The text is not a primary key of this resource.
    """
    columns = mapper.primary_key
    try:
        content = msgspec.json.decode(record_id)
        parts = content if len(columns) > 1 else [content]
        return tuple(_typed(c, p) for c, p in zip(columns, parts, strict=True))
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        shape = ", ".join(f"{c.name}: {c.type.python_type.__name__}" for c in columns)
        raise NotFoundError(
            f"{record_id!r} is not a key of {mapper.class_.__name__} ({shape}); "
            'give it as JSON: 42, "text", or [1, "a"] for several columns'
        ) from error


def _typed(column: ColumnElement[Any], value: Any) -> Any:
    kind = column.type
    if isinstance(kind, TypeDecorator) and kind.python_type is object:
        return as_loaded(kind, value)
    return msgspec.convert(value, type=kind.python_type)


def as_loaded(kind: TypeDecorator[Any], value: Any) -> Any:
    """Return the value that a column of a type of the user's is loaded with.

    Such a type need not tell of which Python type its values are; but what it loads for what it
    stores, it can be asked.

    Raises:
        ValueError: It can store no such value.
    """
    if _has_own(kind, "process_bind_param"):
        with suppress(Exception):  # whatever code of the user's raises
            return _loaded(kind, kind.process_bind_param(value, _NO_DIALECT))
    plain = msgspec.convert(value, type=kind.impl_instance.python_type)
    if not _has_own(kind, "process_bind_param"):
        return _loaded(kind, plain)
    try:
        return _loaded(kind, kind.process_bind_param(plain, _NO_DIALECT))
    except Exception as error:
        raise ValueError(f"{value!r} is no value of {kind!r}") from error


def _loaded(kind: TypeDecorator[Any], stored: Any) -> Any:
    if not _has_own(kind, "process_result_value"):
        return stored
    return kind.process_result_value(stored, _NO_DIALECT)


def _has_own(kind: TypeDecorator[Any], name: str) -> bool:
    return getattr(type(kind), name) is not getattr(TypeDecorator, name)


_NO_DIALECT: Dialect = DefaultDialect()


def _part_in_sql(column: ColumnElement[Any], dialect: Dialect, where: str) -> ColumnElement[str]:
    kind = column.type.dialect_impl(dialect)
    if isinstance(kind, TypeDecorator | Enum | CHAR):
        raise _no_sql(column, where)
    if isinstance(kind, Integer):
        return cast(column, Text())
    if isinstance(kind, String):
        return _quoted(column, dialect)
    if isinstance(kind, Uuid):
        return _uuid_in_sql(column, dialect)
    raise _no_sql(column, where)


def _quoted(text: ColumnElement[Any], dialect: Dialect) -> ColumnElement[str]:
    if dialect.name == "sqlite":
        return func.json_quote(cast(text, Text()), type_=Text())
    return cast(func.to_json(cast(text, Text())), Text())


def _uuid_in_sql(column: ColumnElement[Any], dialect: Dialect) -> ColumnElement[str]:
    text: ColumnElement[str] = cast(column, Text())
    if dialect.name == "sqlite" or not getattr(column.type, "native_uuid", True):
        spans = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))  # stored as 32 hexadecimal digits
        dash = literal_column("'-'", Text())
        text = func.substr(text, *spans[0], type_=Text())
        for span in spans[1:]:
            text = text + dash + func.substr(cast(column, Text()), *span, type_=Text())
    quote = literal_column("""'"'""", Text())
    return quote + text + quote


def _no_sql(column: ColumnElement[Any], where: str) -> BulkError:
    name = getattr(column, "name", str(column))
    return BulkError(
        where,
        f"its key column {name!r} is {column.type!r}, whose text in jobs SQL cannot make",
        why="bulk names the records of jobs and history in SQL, for integers, text and UUIDs",
        fix="fire the transition on each record",
    )

"""Rows as one array for each column: one short statement however many rows."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Dialect,
    Select,
    Table,
    bindparam,
    cast,
    func,
    select,
    types,
)
from sqlalchemy.dialects import postgresql

from statejobs.store.types import type_on_postgresql

_PLAIN = (
    types.Boolean,
    types.Date,
    types.DateTime,
    types.Enum,
    types.Float,
    types.Interval,
    types.LargeBinary,
    types.Numeric,
    types.Integer,
    types.String,
    types.Time,
    types.Uuid,
)
_TEXT_IN_ARRAYS = (
    types.Boolean,
    types.Date,
    types.DateTime,
    types.Float,
    types.Integer,
    types.Numeric,
    types.String,
    types.Uuid,
)
"""What an array of is written as its text."""


def as_arrays(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[frozenset[str], dict[str, Any]]:
    """Return an array for each column, but one value where it is constant; and those columns."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    constant = frozenset(
        name for name, values in columns.items() if _is_constant(values)
    )
    constant -= {_NEVER_CONSTANT}
    return constant, {n: v[0] if n in constant else v for n, v in columns.items()}


def rows_of_arrays(
    table: Table, columns: Sequence[str], constant: Collection[str]
) -> Select[Any]:
    """Return rows made of one array for each column: one short statement however many rows.

    A column that is *constant* comes as one value.
    """
    return select(
        *(
            bindparam(name, type_=table.c[name].type)
            if name in constant
            else func.unnest(
                bindparam(name, type_=postgresql.ARRAY(table.c[name].type))
            )
            for name in columns
        )
    )


def fits_array(column: Column[Any]) -> bool:
    """Return whether an array of the column's values means the same; not so for arrays and JSON."""
    stored = type_on_postgresql(column.type)
    is_nested = isinstance(stored, types.ARRAY | types.JSON)
    return isinstance(_undecorated(column.type), _PLAIN) and not is_nested


def can_be_given(column: Column[Any]) -> bool:
    """Return whether an array can carry the column's values, as themselves or as text."""
    return fits_array(column) or _is_carried_as_text(column)


def array_of(column: Column[Any]) -> postgresql.ARRAY[Any]:
    """Return the type of an array of the column's values, however long they are.

    A value that is too long for the column must be refused by it, and must find no shorter key: an
    array of `VARCHAR(5)` would cut it off, as each explicit cast does.
    """
    if _is_carried_as_text(column):
        return postgresql.ARRAY(_AsText(column.type), dimensions=1)
    plain = type_on_postgresql(column.type)
    if isinstance(plain, types.Enum) or getattr(plain, "length", None) is None:
        return postgresql.ARRAY(column.type)
    if isinstance(plain, types.String):
        is_padded = isinstance(plain, types.CHAR | types.NCHAR)
        return postgresql.ARRAY(
            _Unbounded(column.type, "BPCHAR" if is_padded else "VARCHAR")
        )
    return postgresql.ARRAY(column.type)


def of_array(value: ColumnElement[Any], column: Column[Any]) -> ColumnElement[Any]:
    """Return an element of `array_of` as the column takes it."""
    return cast(value, column.type) if _is_carried_as_text(column) else value


def _is_carried_as_text(column: Column[Any]) -> bool:
    """Return whether its values are arrays or JSON, which would nest in an array."""
    stored = type_on_postgresql(column.type)
    if isinstance(stored, types.ARRAY):
        return isinstance(_undecorated(stored.item_type), _TEXT_IN_ARRAYS)
    return isinstance(stored, types.JSON)


def _undecorated(kind: types.TypeEngine[Any]) -> types.TypeEngine[Any]:
    while isinstance(kind, types.TypeDecorator):
        kind = kind.impl_instance
    return kind


class _AsText(types.UserDefinedType[Any]):
    """JSON, or an array, as the text that is cast to it."""

    cache_ok = True

    def __init__(self, inner: types.TypeEngine[Any]) -> None:
        self.inner = inner

    def get_col_spec(self, **_options: Any) -> str:
        return "TEXT"

    def bind_processor(self, dialect: Dialect) -> Any:
        process = self.inner.dialect_impl(dialect).bind_processor(dialect)
        to_json = getattr(dialect, "_json_serializer", None) or json.dumps
        is_array = isinstance(type_on_postgresql(self.inner), types.ARRAY)

        def as_text(value: Any) -> str | None:
            stored = value if process is None else process(value)
            if stored is None or isinstance(stored, str):
                return stored
            # the driver wraps what it is to write as JSON
            text = _array_literal(stored) if is_array else to_json(stored.obj)
            return text.decode() if isinstance(text, bytes) else text

        return as_text


def _array_literal(value: Sequence[Any]) -> str:
    """Return *value* as PostgreSQL writes an array.

    https://www.postgresql.org/docs/current/arrays.html#ARRAYS-INPUT
    """
    return f"{{{','.join(map(_array_element, value))}}}"


def _array_element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list | tuple):
        return _array_literal(value)
    quoted = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


class _Unbounded(types.UserDefinedType[Any]):
    """A type of text as another binds it, without its length."""

    cache_ok = True

    def __init__(self, inner: types.TypeEngine[Any], name: str) -> None:
        self.inner = inner
        self.name = name

    def get_col_spec(self, **_options: Any) -> str:
        return self.name

    def bind_processor(self, dialect: Dialect) -> Any:
        return self.inner.dialect_impl(dialect).bind_processor(dialect)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        return self.inner.dialect_impl(dialect).result_processor(dialect, coltype)


def _is_constant(values: Sequence[Any]) -> bool:
    first = values[0]
    return all(value is first or value == first for value in values)


_NEVER_CONSTANT = "record_id"  # one array says how many rows there are

"""Rows as one array for each column: one short statement however many rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Dialect, Select, Table, bindparam, func, select, types
from sqlalchemy.dialects import postgresql

from statejobs.store.types import type_on_postgresql

_PLAIN = (
    types.Boolean, types.Date, types.DateTime, types.Enum, types.Interval, types.LargeBinary,
    types.Numeric, types.Integer, types.String, types.Time, types.Uuid,
)  # fmt: skip


def as_arrays(rows: Sequence[Mapping[str, Any]]) -> tuple[frozenset[str], dict[str, Any]]:
    """Return an array for each column, but one value where it is constant; and those columns."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    constant = frozenset(name for name, values in columns.items() if _is_constant(values))
    constant -= {_NEVER_CONSTANT}
    return constant, {n: v[0] if n in constant else v for n, v in columns.items()}


def rows_of_arrays(table: Table, columns: Sequence[str], constant: Collection[str]) -> Select[Any]:
    """Return rows made of one array for each column: one short statement however many rows.

    A column that is *constant* comes as one value.
    """
    return select(
        *(
            bindparam(name, type_=table.c[name].type)
            if name in constant
            else func.unnest(bindparam(name, type_=postgresql.ARRAY(table.c[name].type)))
            for name in columns
        )
    )


def fits_array(column: Column[Any]) -> bool:
    """Return whether an array of the column's values means the same; not so for arrays and JSON."""
    plain, stored = column.type, type_on_postgresql(column.type)
    while isinstance(plain, types.TypeDecorator):
        plain = plain.impl_instance
    return isinstance(plain, _PLAIN) and not isinstance(stored, types.ARRAY | types.JSON)


def array_of(column: Column[Any]) -> postgresql.ARRAY[Any]:
    """Return the type of an array of the column's values, however long they are.

    A value that is too long for the column must be refused by it, and must find no shorter key: an
    array of `VARCHAR(5)` would cut it off, as each explicit cast does.
    """
    plain = type_on_postgresql(column.type)
    if isinstance(plain, types.Enum) or getattr(plain, "length", None) is None:
        return postgresql.ARRAY(column.type)
    if isinstance(plain, types.String):
        is_padded = isinstance(plain, types.CHAR | types.NCHAR)
        return postgresql.ARRAY(_Unbounded(column.type, "BPCHAR" if is_padded else "VARCHAR"))
    return postgresql.ARRAY(column.type)


class _Unbounded(types.UserDefinedType[Any]):
    """A type of text as another binds it, without its length."""

    cache_ok = True

    def __init__(self, inner: types.TypeEngine[Any], name: str) -> None:
        self.inner, self.name = inner, name

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

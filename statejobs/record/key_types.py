"""Brings the keys of records to the types of their columns, so that one record has one name."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    CHAR,
    NCHAR,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Enum,
    Integer,
    String,
    Uuid,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm.attributes import instance_state, set_attribute
from sqlalchemy.types import TypeEngine

from statejobs.errors import DefinitionError, StateJobsError
from statejobs.record.identity import encode_identity, typed_part
from statejobs.record.model import ResourceModel
from statejobs.store.key_values import as_returned, why_no_key


def refuse_key_type(cls: type, column: Column[Any]) -> None:
    """Refuse a key whose text jobs could not know before the database returns it.

    Raises:
        DefinitionError: It has such a type on one of the databases.
    """
    for dialect in _DIALECTS:
        reason = why_no_key(column.type, dialect)
        if reason is not None:
            raise DefinitionError(
                f"{cls.__name__}.{column.key}",
                f"its type {column.type!r} cannot be that of a primary key",
                why=f"{reason}, and jobs and history name a record by one text",
                fix="take integers, text, a UUID, a date, an instant, Numeric or bytes, or a "
                "TypeDecorator over one of these; keep this column beside the key, unique",
            )


def bring_key_to_type(model: ResourceModel, record: object, dialect: Dialect) -> None:
    """Give *record* the key that it is loaded with: 42 for `"42"`, one form of each UUID.

    Raises:
        StateJobsError: A part of the key is no value of its column.
    """
    for name, typed in _parts_to_bring(model, record, dialect):
        set_attribute(record, name, typed)


def refuse_other_text(model: ResourceModel, record: object, dialect: Dialect) -> None:
    """Refuse a key that was made in the flush, too late to be brought to its type.

    Raises:
        StateJobsError: The database returns it otherwise.
    """
    for name, typed in _parts_to_bring(model, record, dialect):
        raise StateJobsError(
            f"its key {name!r} was made as {vars(record)[name]!r}, which is loaded "
            f"as {typed!r}",
            where=model.cls.__name__,
            why="jobs and history would take it for two records",
            fix=(
                "Let what makes it (default=, before_insert, the record that it "
                "refers to) make what is loaded"
            ),
        )


def refuse_other_key(model: ResourceModel, record: object, dialect: Dialect) -> None:
    """Refuse another key for a stored record; another form of the same is taken back.

    Jobs and history name the record by its key, so that both would stay behind.

    Raises:
        StateJobsError: The record would be named by another text.
    """
    state = instance_state(record)
    assert state.key is not None  # noqa: S101 - it is stored
    for number, (name, column, _) in enumerate(_parts(model)):
        if name not in state.committed_state:
            continue
        value = vars(record).get(name)
        stored = state.key[1][number]
        if value is None or _typed(model, name, column, value, dialect) != stored:
            raise StateJobsError(
                f"its key {name!r} was changed from {stored!r} to {value!r}, and its "
                "jobs and history would stay with the old one",
                where=model.label(record),
                fix=(
                    "A key is for the life of a record: make a new record, and keep "
                    "what may change in a column of its own"
                ),
            )
        set_attribute(record, name, stored)


def _parts_to_bring(
    model: ResourceModel, record: object, dialect: Dialect
) -> list[tuple[str, Any]]:
    """Return the attributes of the key that are loaded as something else, with that."""
    values = vars(record)
    found = []
    for name, column, wanted in _parts(model):
        value = values.get(name)
        if value is None or type(value) is wanted:
            continue
        typed = _typed(model, name, column, value, dialect)
        if type(typed) is not type(value) or encode_identity(
            [typed]
        ) != encode_identity([value]):
            found.append((name, typed))
    return found


def key_of_types(
    model: ResourceModel, parts: Sequence[Any], dialect: Dialect
) -> tuple[Any, ...]:
    """Return *parts* as the key that a record with them is loaded with.

    Raises:
        ValueError: No record has such a key.
    """
    columns = model.mapper.primary_key
    try:
        return tuple(
            _part_of_type(column.type, part, dialect)
            for column, part in zip(columns, parts, strict=True)
        )
    except Exception as error:  # whatever a type of the user's raises
        raise ValueError(parts) from error


def _part_of_type(kind: TypeEngine[Any], value: Any, dialect: Dialect) -> Any:
    if isinstance(value, bool) and not isinstance(kind, Boolean):
        raise TypeError(value)
    with suppress(TypeError, ValueError):  # a Python value need not be one of JSON
        value = typed_part(kind, value)
    return as_returned(kind, value, dialect)


@lru_cache(maxsize=1024)
def _parts(
    model: ResourceModel,
) -> tuple[tuple[str, ColumnElement[Any], type | None], ...]:
    """Return the attributes of the key, their columns, and the type that is right as it is."""
    return tuple(
        (model.mapper.get_property_by_column(column).key, column, _plain(column.type))
        for column in model.mapper.primary_key
    )


def _plain(kind: TypeEngine[Any]) -> type | None:
    """Return the type whose every value is loaded as it was given; None where none is."""
    if kind._variant_mapping:  # noqa: SLF001 - told by no public name
        return None
    match kind:
        case Integer():
            return int
        case Uuid() if kind.as_uuid:
            return UUID
        case Enum() | CHAR() | NCHAR():
            return None
        case String() if kind.length is None:
            return str
        case _:
            return None


def _typed(
    model: ResourceModel,
    name: str,
    column: ColumnElement[Any],
    value: Any,
    dialect: Dialect,
) -> Any:
    try:
        typed = as_returned(column.type, value, dialect)
        content = msgspec.json.decode(encode_identity([typed]))
        if typed_part(column.type, content) == typed:
            return typed
        error: Exception = ValueError(
            "its text cannot be read again: give the type a python_type"
        )
    except Exception as raised:  # noqa: BLE001 - whatever a type of the user's raises
        error = raised
    raise StateJobsError(
        f"its key {name!r} is {value!r}, which is no value of {column.type!r}",
        where=model.cls.__name__,
        why="jobs and history could not name the record",
        fix=f"Give it the type of its column ({type(error).__name__}: {error})",
    ) from error


_DIALECTS: tuple[Dialect, ...] = (sqlite.dialect(), postgresql.dialect())  # type: ignore[no-untyped-call]

"""Brings the keys of records to the types of their columns, so that one record has one name."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Enum, Integer, Numeric, String, Uuid
from sqlalchemy.orm.attributes import set_attribute
from sqlalchemy.types import TypeDecorator, TypeEngine

from statejobs.errors import StateJobsError
from statejobs.resource.identity import as_loaded
from statejobs.resource.model import ResourceModel


def bring_key_to_type(model: ResourceModel, record: object) -> None:
    """Give *record* the key that it is loaded with: 42 for `"42"`, one form of each UUID.

    Raises:
        StateJobsError: A part of the key is no value of its column.
    """
    values = vars(record)
    for name, column, wanted in _parts(model):
        value = values.get(name)
        if value is None or type(value) is wanted:
            continue
        typed = _typed(model, record, name, column, value)
        if type(typed) is not type(value) or typed != value:
            set_attribute(record, name, typed)


@lru_cache(maxsize=1024)
def _parts(model: ResourceModel) -> tuple[tuple[str, ColumnElement[Any], type | None], ...]:
    """Return the attributes of the key, their columns, and the type that is right as it is."""
    return tuple(
        (model.mapper.get_property_by_column(column).key, column, _plain(column.type))
        for column in model.mapper.primary_key
    )


def _plain(kind: TypeEngine[Any]) -> type | None:
    """Return the type whose every value is loaded as it was given; None where none is."""
    match kind:
        case Integer():
            return int
        case Uuid() if kind.as_uuid:
            return UUID
        case String() if not isinstance(kind, Enum):
            return str
        case _:
            return None


def _typed(
    model: ResourceModel, record: object, name: str, column: ColumnElement[Any], value: Any
) -> Any:
    try:
        return _bring(column.type, value)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise StateJobsError(
            f"{model.label(record)}: its key {name!r} is {value!r}, which is no value of "
            f"{column.type!r}: jobs and history could not name the record. Give it the type of "
            "its column"
        ) from error


def _bring(kind: TypeEngine[Any], value: Any) -> Any:
    match kind:
        case TypeDecorator():
            typed = _as_loaded(kind, value)
        case Integer():
            typed = _integer(value)
        case Uuid():
            uuid = value if isinstance(value, UUID) else UUID(value)
            typed = uuid if kind.as_uuid else str(uuid)
        case Numeric() if kind.asdecimal and kind.scale is not None:
            typed = Decimal(value).quantize(Decimal(1).scaleb(-kind.scale))
        case String() if isinstance(value, int) and not isinstance(kind, Enum):
            typed = str(int(value))
        case _:
            typed = value
    return typed


def _as_loaded(kind: TypeDecorator[Any], value: Any) -> Any:
    with suppress(ValueError):
        return as_loaded(kind, value)
    return value


def _integer(value: Any) -> int:
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError(value)
    return number

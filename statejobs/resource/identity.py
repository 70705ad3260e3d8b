"""The one canonical text of a primary key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Mapper

from statejobs.errors import NotFoundError


def encode_identity(values: Sequence[Any]) -> str:
    """Return a primary key as canonical JSON: `42`, `"a"`, or `[1,"a"]` when composite."""
    content = values[0] if len(values) == 1 else list(values)
    return msgspec.json.encode(content, order="deterministic").decode()


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
    return msgspec.convert(value, type=column.type.python_type)

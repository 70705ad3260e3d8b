"""The one canonical text of a primary key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Dialect,
    Enum,
    Integer,
    SmallInteger,
    String,
    Text,
)
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeDecorator, TypeEngine

from statejobs.errors import NotFoundError
from statejobs.store.key_values import has_own
from statejobs.values.article import indefinite


def encode_identity(values: Sequence[Any]) -> str:
    """Return a primary key as canonical JSON: `42`, `"a"`, or `[1,"a"]` when composite.

    Raises:
        TypeError: A part has no text.
    """
    parts = [value.astimezone(UTC) if _is_aware(value) else value for value in values]
    content = parts[0] if len(parts) == 1 else parts
    return msgspec.json.encode(content, order="deterministic", enc_hook=_plain).decode()


def _is_aware(value: Any) -> bool:
    """Whether it is an instant: one has a text for each zone in which a session may show it."""
    return isinstance(value, datetime) and value.tzinfo is not None


def _plain(value: Any) -> str | int:
    """Return the text of what is no value of JSON: an address, or of a subclass of text."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if type(value).__module__ == "ipaddress":
        return str(value)
    raise TypeError(f"{indefinite(type(value).__name__)} has no text")


def decode_identity(mapper: Mapper[Any], record_id: str) -> tuple[Any, ...]:
    """Return the primary key that *record_id* stands for, typed by the mapper's columns.

    Raises:
        NotFoundError: The text is not a primary key of this resource.
    """
    columns = mapper.primary_key
    try:
        if (plain := _plain_decoder(columns)) is not None:
            return (plain.decode(record_id),)
        content = msgspec.json.decode(record_id)
        parts = content if len(columns) > 1 else [content]
        return tuple(typed_part(c.type, p) for c, p in zip(columns, parts, strict=True))
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise no_key(mapper, record_id) from error


def decode_identities(
    mapper: Mapper[Any], record_ids: Iterable[str]
) -> list[tuple[Any, ...] | None]:
    """Return the primary keys that *record_ids* stand for; None for a text that is none."""
    found: list[tuple[Any, ...] | None] = []
    for record_id in record_ids:
        try:
            found.append(decode_identity(mapper, record_id))
        except NotFoundError:
            found.append(None)
    return found


@lru_cache(maxsize=1024)
def _plain_decoder(
    columns: tuple[ColumnElement[Any], ...],
) -> msgspec.json.Decoder[Any] | None:
    """Return what reads a key of one column whose values are those of JSON; else None."""
    if len(columns) > 1:
        return None
    kind = columns[0].type
    if any(
        isinstance(each, Enum | TypeDecorator) for each in (kind, *_variants_of(kind))
    ):
        return None
    for plain, python in ((Integer, int), (String, str)):
        if all(isinstance(each, plain) for each in (kind, *_variants_of(kind))):
            return msgspec.json.Decoder(python)
    return None


def _variants_of(kind: TypeEngine[Any]) -> Iterable[TypeEngine[Any]]:
    return kind._variant_mapping.values()  # noqa: SLF001 - told by no public name


def no_key(mapper: Mapper[Any], given: object) -> NotFoundError:
    """Return the error of what is *given* for a key of *mapper*, and cannot be one."""
    shape = ", ".join(f"{c.name}: {_name_of_type(c.type)}" for c in mapper.primary_key)
    return NotFoundError(
        f"{given!r} is not a key of {mapper.class_.__name__} ({shape})",
        fix='give it as JSON: 42, "text", or [1, "a"] for several columns',
    )


def _name_of_type(kind: TypeEngine[Any]) -> str:
    try:
        name = kind.python_type.__name__
    except NotImplementedError:
        name = "object"
    return repr(kind) if name == "object" else name


def typed_part(kind: TypeEngine[Any], content: Any) -> Any:
    """Return the part of a key that is loaded from a column of *kind* and has the JSON *content*.

    A type of the user's need not tell of which Python type its values are, so that this is tried;
    what has the same text again is it.

    Raises:
        ValueError: There is none.
    """
    if type(content) is _plain_type(kind):
        return content
    guesses = list(_guesses(kind, content))
    if not guesses:
        raise ValueError(f"{content!r} is no value of {kind!r}")
    return next((guess for guess in guesses if _has_text(guess, content)), guesses[0])


@lru_cache(maxsize=1024)
def _plain_type(kind: TypeEngine[Any]) -> type | None:
    """Return int or str where the values of *kind* are just what JSON makes of their text."""
    is_plain = type(kind) in _PLAIN and not kind._variant_mapping  # noqa: SLF001 - as above
    return kind.python_type if is_plain else None


def _guesses(kind: TypeEngine[Any], content: Any) -> Iterator[Any]:
    for each in (kind, *_variants_of(kind)):
        inner = each.data_type if isinstance(each, DOMAIN) else each
        ways = (
            _ways_of_decorator(inner)
            if isinstance(inner, TypeDecorator)
            else [_convert(inner)]
        )
        for way in ways:
            with suppress(Exception):  # whatever code of the user's raises
                yield way(content)


def _ways_of_decorator(kind: TypeDecorator[Any]) -> Iterator[Callable[[Any], Any]]:
    with suppress(NotImplementedError):
        if kind.python_type is not object:
            yield _convert(kind)
    yield partial(_loaded_of_type, kind, _stored_type(kind))
    yield lambda content: _as_loaded(kind, content)
    for candidate in _KEY_TYPES:
        yield partial(_loaded_of_type, kind, candidate)
    yield lambda content: _loaded(
        kind, msgspec.convert(content, type=_stored_type(kind))
    )


def _convert(kind: TypeEngine[Any]) -> Callable[[Any], Any]:
    return lambda content: msgspec.convert(content, type=kind.python_type)


def _loaded_of_type(kind: TypeDecorator[Any], candidate: type, content: Any) -> Any:
    return _as_loaded(kind, msgspec.convert(content, type=candidate))


def _as_loaded(kind: TypeDecorator[Any], value: Any) -> Any:
    """Return what a column of a type of the user's is loaded with for *value*."""
    has_bind = has_own(kind, "process_bind_param")
    return _loaded(
        kind, kind.process_bind_param(value, _NO_DIALECT) if has_bind else value
    )


def _loaded(kind: TypeDecorator[Any], stored: Any) -> Any:
    if not has_own(kind, "process_result_value"):
        return stored
    return kind.process_result_value(stored, _NO_DIALECT)


def _stored_type(kind: TypeDecorator[Any]) -> type:
    impl: Any = kind.impl_instance
    return _stored_type(impl) if isinstance(impl, TypeDecorator) else impl.python_type


def _has_text(value: Any, content: Any) -> bool:
    with suppress(TypeError, ValueError):
        found = msgspec.json.decode(encode_identity([value]))
        return bool(found == content and type(found) is type(content))
    return False


_PLAIN = (Integer, BigInteger, SmallInteger, String, Text)
_NO_DIALECT: Dialect = DefaultDialect()
_KEY_TYPES = (UUID, datetime, date, time, Decimal, bytes, int, float, bool)
"""What the values of such a type may be."""

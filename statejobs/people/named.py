"""How people name records, resources, keys and queues, and what is stored for each."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from sqlalchemy import Dialect, Enum, String
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.types import TypeDecorator, TypeEngine

from statejobs.declare.registry import Registry
from statejobs.errors import NotFoundError, WrongValueError, did_you_mean
from statejobs.record.identity import encode_identity, no_key
from statejobs.record.key_types import key_of_types
from statejobs.record.model import ResourceModel


def key_named(model: ResourceModel, named: object, dialect: Dialect) -> tuple[Any, ...]:
    """Return the primary key that *named* stands for.

    Args:
        model: The resource.
        named: A record, its key (a tuple when it has several columns), or text: JSON in any
            spelling, or what a column of its own holds, as people type it.
        dialect: Of the database, which returns a key in its form.

    Raises:
        NotFoundError: No record of the resource can have such a key.
        WrongValueError: It is a record of another resource, or one that has no key yet.
    """
    if hasattr(type(named), "__statejobs__"):
        return _key_of_record(model, named, dialect)
    try:
        if isinstance(named, str) and not isinstance(named, enum.Enum):
            return _key_of_text(model, named, dialect)
        return key_of_types(model, _parts_of(named), dialect)
    except ValueError as error:
        raise no_key(model.mapper, named) from error


class Named:
    """What an app calls its resources, keys and queues."""

    def __init__(
        self, registry: Registry, queues: Mapping[str, int], dialect: Dialect
    ) -> None:
        self._registry = registry
        self._queues = queues
        self._dialect = dialect

    def resource(self, given: object) -> str:
        """Return the stored name of a resource, given by name in any case, or as its class.

        One that the app does not know is returned as it is: it may have been another's.
        """
        model: ResourceModel | None = getattr(given, "__statejobs__", None)
        if isinstance(given, type) and model is not None:
            return model.name
        if not isinstance(given, str):
            raise WrongValueError(
                f"resource={given!r} is no name of a resource",
                fix='give its name or its class, such as resource="Order"',
            )
        with suppress(NotFoundError):
            return self._registry.resource(given).name
        return given

    def records(
        self, resource: str | None, named: object
    ) -> tuple[str | None, list[str]]:
        """Return the resource and the stored keys that *named*, of *resource*, may stand for.

        Of a text or a key alone they are several: one for each kind of key that reads it.

        Raises:
            NotFoundError: It is no key of *resource*, or of none that the app has.
            WrongValueError: It is a record of another resource, or has no key yet.
        """
        own: ResourceModel | None = getattr(type(named), "__statejobs__", None)
        if own is not None:
            self._refuse_other(resource, named)
            return own.name, [encode_identity(key_named(own, named, self._dialect))]
        model = None if resource is None else self._registry.resources.get(resource)
        if model is not None:
            return resource, [encode_identity(key_named(model, named, self._dialect))]
        known = [] if resource is not None else self._registry.resources.values()
        keys = [
            key for model in known for key in _keys_named(model, named, self._dialect)
        ]
        stored = map(encode_identity, keys)
        forms = list(dict.fromkeys([*stored, *_as_it_is(named)]))
        if forms:
            return resource, forms
        raise NotFoundError(
            f"{named!r} is not a key of a record",
            fix="give the record, its key, or that as text",
        )

    def refuse_unknown(
        self,
        *,
        queue: str | None = None,
        key: str | None = None,
        resource: str | None = None,
        holding: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """Refuse names that nobody knows: an answer that is empty for a typing error is a trap.

        Args:
            queue: Name of a queue.
            key: Key of a trigger or task.
            resource: Stored name of a resource.
            holding: Returns the queues that hold jobs, whosever they are.

        Raises:
            NotFoundError: With the closest name.
        """
        registry = self._registry
        queues = [*self._queues, *registry.named_queues()]
        if queue is not None and queue not in queues:
            _refuse_unknown("queue", queue, [*queues, *holding()])
        _refuse_unknown("key", key, registry.known_keys())
        _refuse_unknown("resource", resource, registry.resources)

    def _refuse_other(self, resource: str | None, record: object) -> None:
        model = None if resource is None else self._registry.resources.get(resource)
        if resource is None or (model is not None and isinstance(record, model.cls)):
            return
        raise _wrong_record(resource, record)


def _key_of_record(
    model: ResourceModel, record: Any, dialect: Dialect
) -> tuple[Any, ...]:
    if not isinstance(record, model.cls):
        raise _wrong_record(model.name, record)
    state = sa_inspect(record)
    if state.identity is not None:
        return tuple(state.identity)
    columns = model.mapper.primary_key
    held = [state.dict.get(model.mapper.get_property_by_column(c).key) for c in columns]
    if None in held:
        raise WrongValueError(
            f"{model.label(record)} has no key yet, so nothing is stored of it",
            fix="flush or commit its session first",
        )
    return key_of_types(model, held, dialect)


def _key_of_text(model: ResourceModel, text: str, dialect: Dialect) -> tuple[Any, ...]:
    is_one = len(model.mapper.primary_key) == 1
    with suppress(ValueError, msgspec.DecodeError):
        content = msgspec.json.decode(text)
        if not is_one:
            return key_of_types(model, _parts_of(content), dialect)
        if isinstance(content, str) or not _is_text(model.mapper.primary_key[0].type):
            return key_of_types(model, [content], dialect)
    if is_one:
        return key_of_types(model, [text], dialect)
    raise ValueError(text)


def _is_text(kind: TypeEngine[Any]) -> bool:
    stored = kind.impl_instance if isinstance(kind, TypeDecorator) else kind
    return isinstance(stored, String) and not isinstance(stored, Enum)


def _keys_named(
    model: ResourceModel, named: object, dialect: Dialect
) -> list[tuple[Any, ...]]:
    try:
        return [key_named(model, named, dialect)]
    except NotFoundError:
        return []


def _parts_of(named: object) -> Sequence[Any]:
    if isinstance(named, Sequence) and not isinstance(named, str | bytes):
        return named
    return [named]


def _as_it_is(named: object) -> list[str]:
    """Return *named* as it is stored for a resource whose key is not known here."""
    if isinstance(named, str):
        return [named]
    with suppress(TypeError):  # JSON has no such values
        return [encode_identity(_parts_of(named))]
    return []


def _wrong_record(resource: str, record: object) -> WrongValueError:
    kind = type(record).__name__
    return WrongValueError(
        f"a record of {kind} was given for one of {resource}",
        fix=f"name its own resource, {kind!r}",
    )


def _refuse_unknown(what: str, name: str | None, known: Iterable[str]) -> None:
    names = list(known)
    if name is not None and name not in names:
        raise NotFoundError(
            f"no {what} {name!r}",
            fix=did_you_mean(str(name), names),
        )

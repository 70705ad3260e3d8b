"""One argument as JSON text, and the check that it comes back equal and of the same type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from math import isfinite
from typing import Any, NamedTuple

import msgspec

from statejobs.values.article import indefinite
from statejobs.values.text import clean_text

MOST_DEPTH = 64
MOST_BYTES = 1_048_576
"""Size of one encoded parameter."""


class NotStorable(Exception):  # noqa: N818 - becomes an ArgumentsError once the parameter is known
    """A value cannot be stored; unwinds through the encoder of msgspec, which asks for models."""

    def __init__(self, why: str, fix: str = "") -> None:
        super().__init__(why, fix)
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        """Return why, and what to do."""
        return f"{self.why}; {self.fix}" if self.fix else self.why

    @classmethod
    def for_size(cls) -> NotStorable:
        """Return the answer to what is larger than `MOST_BYTES`."""
        why = f"it is larger than {MOST_BYTES} bytes"
        return cls(why, fix="store it elsewhere and pass its key")


def stored_text(value: object, name: str, decoder: msgspec.json.Decoder[Any]) -> str:
    """Encode *value*, called *name*, and refuse it unless *decoder* gives the same back."""
    root = Place(None, None, name)
    Survey(left=MOST_BYTES).visit(value, root)
    encoded = _encoded(value)
    if len(encoded) > MOST_BYTES:
        raise NotStorable.for_size()
    if b"\0" in encoded:
        raise NotStorable("its JSON holds a raw NUL")
    _compare(value, decoder.decode(encoded), root)
    return encoded.decode()


def json_text(value: object, name: str) -> str:
    """Encode *value*, called *name*, which may come back as plainer values than it was.

    Raises:
        NotStorable: JSON cannot hold it.
    """
    Survey(left=MOST_BYTES).visit(value, Place(None, None, name))
    try:
        encoded = _encoded(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise NotStorable(f"{name} has no form in JSON: {error}") from error
    if b"\0" in encoded:
        raise NotStorable("its JSON holds a raw NUL")
    return encoded.decode()


def quoted(text: str) -> str:
    """Return *text* as a JSON string."""
    return _ENCODER.encode(text).decode()


def from_json(kind: Any, value: object) -> object:
    """Make a model of *kind* from *value*: the `dec_hook` of every decoder."""
    if kind is object:
        return value
    # a strict model takes text for a date from JSON alone
    read = kind.model_validate_json
    names = {"by_name": True} if "by_name" in (read.__kwdefaults__ or {}) else {}
    return read(_ENCODER.encode(value), **names)


def unknown_type(root: object) -> type | None:
    """Return a type inside *root* that neither msgspec nor pydantic can read back."""
    waiting = [root]
    seen = set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, msgspec.inspect.CustomType) and not (
            node.cls is object or is_model(node.cls)
        ):
            return node.cls
        if isinstance(node, tuple):
            waiting.extend(node)
        elif isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field):
            waiting.extend(getattr(node, name) for name in node.__struct_fields__)
    return None


@dataclass(slots=True)
class Survey:
    """Looks a value over before it is encoded: a cycle or a web of shared lists never ends."""

    left: int
    is_strict: bool = True

    def visit(self, value: object, place: Place, depth: int = 0) -> None:
        """Refuse a *value* too large or too deep and, if strict, one that JSON cannot hold."""
        self.left -= 1 + (
            len(value) if isinstance(value, str | bytes | bytearray) else 0
        )
        if self.left < 0:
            raise NotStorable.for_size()
        if self.is_strict:
            _check_shape(value, place)
        parts = _parts(value)
        if parts is None:
            return
        if depth >= MOST_DEPTH:
            raise NotStorable(f"it is nested more than {MOST_DEPTH} deep")
        if isinstance(value, dict):
            self.left -= sum(len(key) for key in value if isinstance(key, str))
        for key, part in parts.items():
            self.visit(part, Place(place, value, key), depth + 1)


class Place(NamedTuple):
    """Where inside an argument we are; turned into text only for a refusal."""

    parent: Place | None
    container: object
    key: object

    def __str__(self) -> str:
        if self.parent is None:
            return str(self.key)
        if isinstance(self.container, dict | list | tuple):
            return f"{self.parent}[{clean_text(repr(self.key), 80)}]"
        member = (
            "[...]" if isinstance(self.container, set | frozenset) else f".{self.key}"
        )
        return f"{self.parent}{member}"


def is_secret(kind: object) -> bool:
    """Return whether values of *kind* hide themselves, as pydantic's `SecretStr`."""
    return hasattr(kind, "get_secret_value")


def is_model(kind: object) -> bool:
    """Return whether *kind* is a model of pydantic."""
    return hasattr(kind, "model_dump") and hasattr(kind, "model_validate_json")


def _to_json(value: Any) -> object:
    if is_model(type(value)):
        return value.model_dump(mode="json", by_alias=False, round_trip=True)
    raise NotStorable(f"{_type(value)} has no form in JSON")


_ENCODER = msgspec.json.Encoder(enc_hook=_to_json, order="sorted")


def _encoded(value: object) -> bytes:
    try:
        return _ENCODER.encode(value)
    except TypeError:
        return _ENCODER.encode(_ordered(value))


def _ordered(value: object) -> object:
    """Return *value* with its sets as lists, sorted by their JSON: an enum has no order."""
    if isinstance(value, set | frozenset):
        return sorted(map(_ordered, value), key=_ENCODER.encode)
    if isinstance(value, list | tuple):
        return list(map(_ordered, value))
    if isinstance(value, dict):
        return {key: _ordered(item) for key, item in value.items()}
    return value


def _parts(value: Any) -> Mapping[Any, object] | None:
    """Return what *value* consists of, by key, place or field; None for a single thing."""
    if value is None or isinstance(
        value, str | int | float | bytes | datetime | Enum | type
    ):
        return None
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return dict(enumerate(value))
    return _fields(value)


def _fields(value: Any) -> Mapping[str, object] | None:
    names: tuple[str, ...]
    if is_dataclass(value):
        names = tuple(field.name for field in fields(value))
    elif isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
    elif hasattr(type(value), "__attrs_attrs__"):
        names = tuple(field.name for field in type(value).__attrs_attrs__)
    elif is_model(type(value)):
        extra: Mapping[str, object] = getattr(value, "__pydantic_extra__", None) or {}
        return {**vars(value), **extra}
    else:
        return None
    return {name: getattr(value, name) for name in names}


def _check_shape(value: object, place: Place) -> None:
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise NotStorable(
                f"{place} is a datetime without a zone", fix="give it one: tzinfo=UTC"
            )
    elif isinstance(value, float) and not isfinite(value):
        raise NotStorable(
            f"{place} is {value!r}, and JSON has no such number",
            fix="pass None or text",
        )
    elif isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                raise NotStorable(
                    f"{place} has a key of type {_type(key)}; JSON has only str"
                )
    elif isinstance(value, set | frozenset) and any(
        isinstance(v, frozenset) for v in value
    ):
        raise NotStorable(
            f"{place} is a set of sets, which has no order to be stored in"
        )


def _compare(sent: object, back: object, place: Place) -> None:
    if type(sent) is not type(back):
        raise NotStorable(
            f"{place} is {_type(sent)}, but would come back as {_type(back)}"
        )
    ours = _parts(sent)
    theirs = _parts(back)
    if ours is None or theirs is None:
        _compare_single(sent, back, place)
        return
    if isinstance(sent, set | frozenset):
        ours = _members(sent)
        theirs = _members(back)
    if ours.keys() != theirs.keys():
        raise NotStorable(f"{place} would come back with other members")
    for key, part in ours.items():
        _compare(part, theirs[key], Place(place, sent, key))
    if is_model(type(sent)) and sent != back:  # private attributes are no fields
        raise NotStorable(f"{place} would come back changed")


def _compare_single(sent: object, back: object, place: Place) -> None:
    if _is_same(sent, back):
        return
    if is_secret(type(sent)):
        raise NotStorable(
            f"{place} is {indefinite(_type(sent))}, which would be stored masked",
            fix="keep it where your secrets are, and pass its key",
        )
    raise NotStorable(f"{place} would come back changed")


def _members(value: Any) -> Mapping[Any, object]:
    return {item: item for item in value}


def _is_same(sent: object, back: object) -> bool:
    if isinstance(sent, datetime) and isinstance(back, datetime):
        # == calls a time in the hour that repeats unequal to itself in another zone
        return sent - back == timedelta()
    return bool(sent == back)


def _type(value: object) -> str:
    return clean_text(type(value).__qualname__, 200)

"""The typed arguments of actions and transitions, and their text form in the database.

What does not come back equal and of the same type is refused before it is stored.
"""

from __future__ import annotations

import inspect
import json
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from types import SimpleNamespace
from typing import Any, NamedTuple, get_type_hints

import msgspec

from statejobs.domain.failure import MASK, clean_text, is_secret_name, shown_text
from statejobs.errors import ArgumentsError, DefinitionError, did_you_mean

Upcast = Callable[[dict[str, Any]], Mapping[str, Any]]
"""Makes arguments of today from stored ones."""

MOST_DEPTH = 64
MOST_BYTES = 1_048_576
"""Size of one encoded parameter."""

_SHOWN_BYTES = 8_192
_OTHER_VERSION = (
    "The stored job was written by another version of the code; "
    "mend its arguments with upcast= on the trigger."
)
_REFUSED_KINDS = {
    inspect.Parameter.VAR_POSITIONAL: "its number of arguments is open",
    inspect.Parameter.VAR_KEYWORD: "its names are open",
    inspect.Parameter.POSITIONAL_ONLY: "arguments are stored by name",
}


class _Refusal(Exception):  # noqa: N818 - becomes an ArgumentsError once the parameter is known
    """Says why a value cannot be stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One argument that an action or transition takes."""

    name: str
    annotation: object
    is_required: bool
    is_positional: bool
    decoder: msgspec.json.Decoder[Any]


class Signature:
    """The parameters of one function, as a codec between calls and JSON."""

    def __init__(self, name: str, parameters: tuple[Parameter, ...]) -> None:
        self.name = name
        self.parameters = {parameter.name: parameter for parameter in parameters}
        self._positional = [p.name for p in parameters if p.is_positional]
        self._required = frozenset(p.name for p in parameters if p.is_required)

    @classmethod
    def of(
        cls, function: Callable[..., object], *, name: str, skip: int, stored: bool = True
    ) -> Signature:
        """Read the parameters of *function* after the first *skip*.

        Args:
            function: A plain function; its annotations are resolved now.
            name: What messages call it.
            skip: How many parameters are ours: self, ctx.
            stored: Whether jobs carry the arguments. When False the annotations are not looked at,
                so that a transition may take what JSON cannot hold.

        Raises:
            DefinitionError: A parameter could not be stored.
        """
        declared = list(inspect.signature(function).parameters.values())
        ours, rest = declared[:skip], declared[skip:]
        if len(ours) < skip or any(p.kind not in _POSITIONAL for p in ours):
            raise DefinitionError(
                name,
                f"takes {len(ours)} parameters, but is called with {skip} before its arguments",
                why="self, and for an action ctx, are passed first",
                fix=f"declare {skip} positional parameters first",
            )
        return cls(name, tuple(_parameter(function, name, p, stored=stored) for p in rest))

    def bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Return the given arguments by name; defaults are left to the call.

        Raises:
            ArgumentsError: One is unknown, missing, given twice, or one too many.
        """
        most = len(self._positional)
        if len(args) > most:
            problem = f"takes at most {most} by position, but {len(args)} were given"
            raise ArgumentsError(self.name, None, problem)
        given = dict(zip(self._positional, args, strict=False))
        for name in sorted(kwargs.keys() & given.keys()):
            raise ArgumentsError(self.name, name, "is given twice: by position and by name")
        bound = {**given, **kwargs}
        self._check_names(bound)
        return bound

    def encode(self, values: Mapping[str, object]) -> str:
        """Return *values* as one compact JSON object, its keys sorted.

        Raises:
            ArgumentsError: One is unknown, or would not come back equal and of the same type.
        """
        if not values:
            return "{}"
        self._check_known(values)
        members = (f"{_quoted(name)}:{self._encode(name, values[name])}" for name in sorted(values))
        return f"{{{','.join(members)}}}"

    def decode(self, text: str, upcast: Upcast | None = None) -> dict[str, object]:
        """Return the stored arguments, typed by the annotations.

        Args:
            text: As `encode` made it, perhaps for the parameters of an older version.
            upcast: Called with arguments that do not fit; returns others, as JSON values.

        Raises:
            ArgumentsError: They do not fit the parameters of today.
        """
        try:
            return self._decode_all(text)
        except ArgumentsError:
            if upcast is None:
                raise
            mended = upcast(msgspec.json.decode(text))
            return self._decode_all(msgspec.json.encode(mended).decode())

    def _decode_all(self, text: str) -> dict[str, object]:
        if text == "{}" and not self._required:
            return {}
        try:
            stored = _OBJECT.decode(text)
        except Exception as error:
            problem = f"is not stored as a JSON object: {clean_text(error, 500)}."
            raise self._misfit("(all)", problem) from error
        try:
            self._check_names(stored)
        except ArgumentsError as error:
            raise self._misfit(error.parameter, f"{error.problem}.") from None
        return {name: self._decode(name, raw) for name, raw in stored.items()}

    def _check_names(self, names: Mapping[str, object]) -> None:
        self._check_known(names)
        for name in sorted(self._required - names.keys()):
            raise ArgumentsError(self.name, name, "is missing")

    def _check_known(self, names: Mapping[str, object]) -> None:
        for name in names:
            if name not in self.parameters:
                hint = did_you_mean(clean_text(name, 200), self.parameters)
                raise ArgumentsError(self.name, clean_text(name, 200), f"is unknown; {hint}")

    def _encode(self, name: str, value: object) -> str:
        try:
            return _stored_text(value, self.parameters[name])
        except _Refusal as refusal:
            raise ArgumentsError(self.name, name, f"cannot be stored: {refusal}") from None
        except Exception as error:
            problem = f"cannot be stored: {type(error).__name__}: {clean_text(error, 500)}"
            raise ArgumentsError(self.name, name, problem) from error

    def _decode(self, name: str, raw: msgspec.Raw) -> object:
        try:
            return self.parameters[name].decoder.decode(raw)
        except Exception as error:
            problem = f"does not fit its annotation: {clean_text(error, 500)}."
            raise self._misfit(name, problem) from error

    def _misfit(self, name: str | None, problem: str) -> ArgumentsError:
        return ArgumentsError(self.name, name, f"{problem} {_OTHER_VERSION}")


def encode_lossy(values: Mapping[str, object]) -> str:
    """Return *values* as JSON for people to read; never raises.

    Secrets are masked, and what JSON cannot hold is described.
    """
    try:
        if not values:
            return "{}"
        shown = {clean_text(name, 200): _shown(name, value) for name, value in values.items()}
        return json.dumps(shown, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except BaseException:  # noqa: BLE001 - history must not stop a transition
        return '{"?":"(could not be shown)"}'


# --- Reading a function ----------------------------------------------------------------------

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _parameter(
    function: Callable[..., object], name: str, declared: inspect.Parameter, *, stored: bool
) -> Parameter:
    if declared.kind in _REFUSED_KINDS:
        raise DefinitionError(
            name,
            f"parameter {str(declared)!r} is {declared.kind.description}",
            why=f"{_REFUSED_KINDS[declared.kind]}, so they cannot be checked when they are given",
            fix="declare each argument by name",
        )
    annotation = _annotation(function, name, declared) if stored else Any
    return Parameter(
        name=declared.name,
        annotation=annotation,
        is_required=declared.default is inspect.Parameter.empty,
        is_positional=declared.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD,
        decoder=_decoder(annotation, name, declared),
    )


def _annotation(function: Callable[..., object], name: str, declared: inspect.Parameter) -> object:
    """Resolve one annotation alone: ctx may be imported for type checkers only."""
    if declared.annotation is inspect.Parameter.empty:
        raise DefinitionError(
            name,
            f"parameter {declared.name!r} has no annotation",
            why="the arguments of a job are stored as JSON and read back by their annotations",
            fix=f"say what it is, for instance {declared.name}: int",
        )
    names = getattr(inspect.unwrap(function), "__globals__", {})
    holder = SimpleNamespace(__annotations__={declared.name: declared.annotation})
    try:
        return get_type_hints(holder, globalns=names, include_extras=True)[declared.name]
    except Exception as error:
        raise DefinitionError(
            name,
            f"the annotation {declared.annotation!r} of {declared.name!r} cannot be resolved",
            why=f"arguments are stored by type ({type(error).__name__}: {clean_text(error, 500)})",
            fix="define or import the name at module level, outside `if TYPE_CHECKING`",
        ) from error


def _decoder(
    annotation: object, name: str, declared: inspect.Parameter
) -> msgspec.json.Decoder[Any]:
    problem: object
    try:
        unknown = _unknown_type(msgspec.inspect.type_info(annotation))
        decoder = msgspec.json.Decoder[Any](annotation, dec_hook=_from_json)
    except Exception as error:  # noqa: BLE001 - annotations are anyone's code
        problem = error
    else:
        if unknown is None:
            return decoder
        problem = f"{unknown!r} has no form in JSON"
    raise DefinitionError(
        name,
        f"parameter {declared.name!r} cannot be stored: {clean_text(problem, 500)}",
        why="the arguments of a job are stored as JSON and read back by their annotations",
        fix="pass a plain value, a dataclass or a pydantic model; for a record, its primary key",
    )


def _unknown_type(root: object) -> type | None:
    """Return a type inside *root* that neither msgspec nor pydantic can read back."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, msgspec.inspect.CustomType) and not (
            node.cls is object or _is_model(node.cls)
        ):
            return node.cls
        if isinstance(node, tuple):
            waiting.extend(node)
        elif isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field):
            waiting.extend(getattr(node, name) for name in node.__struct_fields__)
    return None


def _is_model(kind: type) -> bool:
    return hasattr(kind, "model_dump") and hasattr(kind, "model_validate")


# --- Values and JSON -------------------------------------------------------------------------


def _to_json(value: Any) -> object:
    if _is_model(type(value)):
        return value.model_dump(mode="json")
    raise _Refusal(f"{_type(value)} has no form in JSON")


def _from_json(kind: Any, value: object) -> object:
    return value if kind is object else kind.model_validate(value)


_ENCODER = msgspec.json.Encoder(enc_hook=_to_json, order="sorted")
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TOO_LARGE = f"it is larger than {MOST_BYTES} bytes; store it elsewhere and pass its key"


def _stored_text(value: object, parameter: Parameter) -> str:
    """Encode *value*, and refuse it unless it comes back the same."""
    root = _Place(None, None, parameter.name)
    _Survey(left=MOST_BYTES).visit(value, root)
    encoded = _encoded(value)
    if len(encoded) > MOST_BYTES:
        raise _Refusal(_TOO_LARGE)
    if b"\0" in encoded:
        raise _Refusal("its JSON holds a raw NUL")
    _compare(value, parameter.decoder.decode(encoded), root)
    return encoded.decode()


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


def _quoted(text: str) -> str:
    return _ENCODER.encode(text).decode()


def _parts(value: Any) -> Mapping[Any, object] | None:
    """Return what *value* consists of, by key, place or field; None for a single thing."""
    if value is None or isinstance(value, str | int | float | bytes | datetime | Enum | type):
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
    elif _is_model(type(value)):
        extra: Mapping[str, object] = getattr(value, "__pydantic_extra__", None) or {}
        return {**vars(value), **extra}
    else:
        return None
    return {name: getattr(value, name) for name in names}


class _Place(NamedTuple):
    """Where inside an argument we are; turned into text only for a refusal."""

    parent: _Place | None
    container: object
    key: object

    def __str__(self) -> str:
        if self.parent is None:
            return str(self.key)
        if isinstance(self.container, dict | list | tuple):
            return f"{self.parent}[{clean_text(repr(self.key), 80)}]"
        member = "[...]" if isinstance(self.container, set | frozenset) else f".{self.key}"
        return f"{self.parent}{member}"


@dataclass(slots=True)
class _Survey:
    """Looks a value over before it is encoded: a cycle or a web of shared lists never ends."""

    left: int
    is_strict: bool = True

    def visit(self, value: object, place: _Place, depth: int = 0) -> None:
        self.left -= 1 + (len(value) if isinstance(value, str | bytes | bytearray) else 0)
        if self.left < 0:
            raise _Refusal(_TOO_LARGE)
        if self.is_strict:
            _check_shape(value, place)
        parts = _parts(value)
        if parts is None:
            return
        if depth >= MOST_DEPTH:
            raise _Refusal(f"it is nested more than {MOST_DEPTH} deep")
        if isinstance(value, dict):
            self.left -= sum(len(key) for key in value if isinstance(key, str))
        for key, part in parts.items():
            self.visit(part, _Place(place, value, key), depth + 1)


def _check_shape(value: object, place: _Place) -> None:
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise _Refusal(f"{place} is a datetime without a zone; give it one: tzinfo=UTC")
    elif isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                raise _Refusal(f"{place} has a key of type {_type(key)}; JSON has only str")
    elif isinstance(value, set | frozenset) and any(isinstance(v, frozenset) for v in value):
        raise _Refusal(f"{place} is a set of sets, which has no order to be stored in")


def _compare(sent: object, back: object, place: _Place) -> None:
    if type(sent) is not type(back):
        raise _Refusal(f"{place} is {_type(sent)}, but would come back as {_type(back)}")
    ours, theirs = _parts(sent), _parts(back)
    if ours is None or theirs is None:
        if not _is_same(sent, back):
            raise _Refusal(f"{place} would come back changed")
        return
    if isinstance(sent, set | frozenset):
        ours, theirs = _members(sent), _members(back)
    if ours.keys() != theirs.keys():
        raise _Refusal(f"{place} would come back with other members")
    for key, part in ours.items():
        _compare(part, theirs[key], _Place(place, sent, key))
    if _is_model(type(sent)) and sent != back:  # private attributes are no fields
        raise _Refusal(f"{place} would come back changed")


def _members(value: Any) -> Mapping[Any, object]:
    return {item: item for item in value}


def _is_same(sent: object, back: object) -> bool:
    if isinstance(sent, datetime) and isinstance(back, datetime):
        # == calls a time in the hour that repeats unequal to itself in another zone
        return sent - back == timedelta()
    return bool(sent == back)


def _type(value: object) -> str:
    return clean_text(type(value).__qualname__, 200)


# --- For people ------------------------------------------------------------------------------


def _described(value: object) -> str:
    return shown_text(reprlib.repr(value), 500)


_LOSSY = msgspec.json.Encoder(enc_hook=_described)


def _shown(name: str, value: object) -> object:
    if is_secret_name(str(name)):
        return MASK
    if isinstance(value, str):
        return shown_text(value, _SHOWN_BYTES)
    for show in (_structure, _described):
        try:
            return show(value)
        except BaseException:  # noqa: BLE001, S112 - its methods are the user's; the next is simpler
            continue
    return "(unprintable)"


def _structure(value: object) -> object:
    _Survey(left=_SHOWN_BYTES, is_strict=False).visit(value, _Place(None, None, ""))
    return _masked(msgspec.json.decode(_LOSSY.encode(value)))


def _masked(value: object) -> object:
    if isinstance(value, dict):
        return {
            clean_text(key, 200): MASK if is_secret_name(str(key)) else _masked(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return shown_text(value, _SHOWN_BYTES) if isinstance(value, str) else value

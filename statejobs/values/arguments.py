"""The typed arguments of actions and transitions, and their text form in the database."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, get_type_hints

import msgspec

from statejobs.errors import ArgumentsError, DefinitionError, did_you_mean
from statejobs.values.argument_hints import hint_for
from statejobs.values.argument_values import (
    NotStorable,
    from_json,
    quoted,
    stored_text,
    unknown_type,
)
from statejobs.values.text import clean_text
from statejobs.values.unrun import ran

Upcast = Callable[[dict[str, Any]], Mapping[str, Any]]
"""Makes arguments of today from stored ones."""

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OTHER_VERSION = (
    "The stored job was written by another version of the code: workers of that version run it. "
    "When there will be none, let upcast= of its trigger or task mend its arguments"
)
_REFUSED_KINDS = {
    inspect.Parameter.VAR_POSITIONAL: "its number of arguments is open",
    inspect.Parameter.VAR_KEYWORD: "its names are open",
    inspect.Parameter.POSITIONAL_ONLY: "arguments are stored by name",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One argument that an action or transition takes."""

    name: str
    annotation: object
    is_required: bool
    is_positional: bool
    default: object
    decoder: msgspec.json.Decoder[Any]


class Signature:
    """The parameters of one function, as a codec between calls and JSON."""

    def __init__(self, name: str, parameters: tuple[Parameter, ...]) -> None:
        self.name = name
        self.parameters = {parameter.name: parameter for parameter in parameters}
        self._positional = [p.name for p in parameters if p.is_positional]
        self.required = frozenset(p.name for p in parameters if p.is_required)
        """The names of those that every call has to give."""

    @classmethod
    def of(
        cls,
        function: Callable[..., object],
        *,
        name: str,
        skip: int,
        stored: bool = True,
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
        ours = declared[:skip]
        rest = declared[skip:]
        if len(ours) < skip or any(p.kind not in _POSITIONAL for p in ours):
            raise DefinitionError(
                name,
                f"takes {len(ours)} parameters, but is called with {skip} before its arguments",
                why="self, and for an action ctx, are passed first",
                fix=f"declare {skip} positional parameters first",
            )
        return cls(
            name, tuple(_parameter(function, name, p, stored=stored) for p in rest)
        )

    def bind(
        self, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> dict[str, object]:
        """Return the given arguments by name; defaults are left to the call.

        Raises:
            ArgumentsError: One is unknown, missing, given twice, or one too many.
        """
        most = len(self._positional)
        if len(args) > most:
            problem = f"takes at most {most} by position, but {len(args)} were given"
            raise ArgumentsError(self.name, None, problem, fix="give them by name")
        given = dict(zip(self._positional, args, strict=False))
        for name in sorted(kwargs.keys() & given.keys()):
            raise ArgumentsError(
                self.name, name, "is given twice", why="by position and by name"
            )
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
        members = (
            f"{quoted(name)}:{self._encode(name, values[name])}"
            for name in sorted(values)
        )
        return f"{{{','.join(members)}}}"

    def encode_call(
        self, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> str:
        """Return the arguments of a call as they are stored: bound, then encoded.

        Raises:
            ArgumentsError: As `bind` and `encode`.
        """
        return self.encode(self.bind(args, kwargs))

    def stored_defaults(self) -> dict[str, str]:
        """Return the defaults as they would be stored, of those that could be."""
        found = {}
        for name, parameter in self.parameters.items():
            if not parameter.is_required:
                with suppress(ArgumentsError):
                    found[name] = self._encode(name, parameter.default)
        return found

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
            mended = ran(upcast(msgspec.json.decode(text)), "upcast of", self.name)
            return self._decode_all(msgspec.json.encode(mended).decode())

    def fit(
        self, text: str, upcast: Upcast | None
    ) -> dict[str, object] | ArgumentsError | None:
        """Return the stored arguments as `decode`; or why they do not fit.

        None when `upcast` raises: it is the user's, so its error is that of the attempt.
        """
        try:
            return self.decode(text, upcast)
        except ArgumentsError as misfit:
            return misfit
        except BaseException:  # noqa: BLE001 - told when the attempt meets it
            return None

    def _decode_all(self, text: str) -> dict[str, object]:
        if text == "{}" and not self.required:
            return {}
        try:
            stored = _OBJECT.decode(text)
        except Exception as error:
            why = f"{clean_text(error, 500)}."
            raise self._misfit(
                "(all)", "is not stored as a JSON object", why
            ) from error
        try:
            self._check_names(stored)
        except ArgumentsError as error:
            raise self._misfit(error.parameter, error.problem) from None
        return {name: self._decode(name, raw) for name, raw in stored.items()}

    def _check_names(self, names: Mapping[str, object]) -> None:
        self._check_known(names)
        for name in sorted(self.required - names.keys()):
            raise ArgumentsError(self.name, name, "is missing")

    def _check_known(self, names: Mapping[str, object]) -> None:
        for name in names:
            if name not in self.parameters:
                given = clean_text(name, 200)
                hint = did_you_mean(given, self.parameters)
                raise ArgumentsError(self.name, given, "is unknown", fix=hint)

    def _encode(self, name: str, value: object) -> str:
        try:
            parameter = self.parameters[name]
            return stored_text(value, parameter.name, parameter.decoder)
        except NotStorable as misfit:
            raise ArgumentsError(
                self.name, name, "cannot be stored", why=misfit.why, fix=misfit.fix
            ) from None
        except Exception as error:
            why = f"{type(error).__name__}: {clean_text(error, 500)}"
            raise ArgumentsError(
                self.name, name, "cannot be stored", why=why
            ) from error

    def _decode(self, name: str, raw: msgspec.Raw) -> object:
        try:
            return self.parameters[name].decoder.decode(raw)
        except Exception as error:
            why = f"{clean_text(error, 500)}."
            raise self._misfit(name, "does not fit its annotation", why) from error

    def _misfit(self, name: str | None, what: str, why: str = "") -> ArgumentsError:
        return ArgumentsError(self.name, name, what, why=why, fix=_OTHER_VERSION)


# --- Reading a function ----------------------------------------------------------------------

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


def _parameter(
    function: Callable[..., object],
    name: str,
    declared: inspect.Parameter,
    *,
    stored: bool,
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
        default=declared.default,
        decoder=_decoder(annotation, name, declared),
    )


def _annotation(
    function: Callable[..., object], name: str, declared: inspect.Parameter
) -> object:
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
        return get_type_hints(holder, globalns=names, include_extras=True)[
            declared.name
        ]
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
        unknown = unknown_type(msgspec.inspect.type_info(annotation))
        decoder = msgspec.json.Decoder[Any](annotation, dec_hook=from_json)
    except Exception as error:  # noqa: BLE001 - annotations are anyone's code
        problem = error
    else:
        if unknown is None:
            return decoder
        problem = f"{unknown!r} has no form in JSON"
    hint = hint_for(annotation, declared.name, clean_text(problem, 500))
    raise DefinitionError(name, hint.what, why=hint.why, fix=hint.fix)

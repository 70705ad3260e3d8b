"""Options of declarations: unknown ones are errors that name the closest known one."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from functools import wraps
from inspect import Parameter
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, cast

from statejobs.errors import DefinitionError, WrongValueError, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])
_DIALECTS = ("sqlite_", "postgresql_")


def explain_options(
    *,
    passed_on: Callable[..., Any] | None = None,
    declared: type | None = None,
    refusal: type[DefinitionError | WrongValueError] = DefinitionError,
    called: str | None = None,
) -> Callable[[F], F]:
    """Turn a call with an unknown option into a *refusal*.

    Args:
        passed_on: A function that takes further options, among them those of a database, such as
            `sqlite_…`.
        declared: The declaration whose options the function takes, where it names none of them.
        refusal: What is raised.
        called: How people call it. Default: its qualified name.
    """

    def explained(function: F) -> F:
        known = _options_of(function) | (_options_of(passed_on) if passed_on else set())
        known |= {field.name for field in _options_in(declared)}
        taken = {*_named(function), *known}

        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            for option in kwargs:
                if option not in taken and not (
                    passed_on and option.startswith(_DIALECTS)
                ):
                    caller = sys._getframe(1)  # noqa: SLF001 - where the declaration stands
                    name = called or function.__qualname__.removesuffix(".__init__")
                    raise _unknown(name, option, known, caller, refusal)
            return function(*args, **kwargs)

        if declared is not None:
            checked.__signature__ = _signature(function, declared)  # type: ignore[attr-defined]
        return cast("F", checked)

    return explained


def _named(function: Callable[..., Any]) -> Iterator[str]:
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not Parameter.VAR_KEYWORD:
            yield name


def _options_in(declared: type | None) -> list[Field[Any]]:
    """Return what of a declaration is given by name."""
    if declared is None:
        return []
    return [field for field in fields(declared) if field.kw_only]


def _signature(function: Callable[..., Any], declared: type) -> inspect.Signature:
    """Return the signature of *function* with each option by its name, for people."""
    signature = inspect.signature(function)
    named = [signature.parameters[name] for name in _named(function)]
    options = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
        )
        for field in _options_in(declared)
    ]
    return signature.replace(parameters=[*named, *options])


def _options_of(function: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def _unknown(
    name: str,
    option: str,
    known: set[str],
    frame: FrameType,
    refusal: type[DefinitionError | WrongValueError],
) -> DefinitionError | WrongValueError:
    place = f"{Path(frame.f_code.co_filename).name}, line {frame.f_lineno}"
    where = f"{name}() in {place}"
    what = f"unknown option {option!r}"
    why = "an option that is silently ignored would not do what it says"
    fix = did_you_mean(option, known)
    if issubclass(refusal, DefinitionError):
        return refusal(where, what, why=why, fix=fix)
    return refusal(what, where=where, why=why, fix=fix)

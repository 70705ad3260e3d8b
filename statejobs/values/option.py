"""What an option is: a field has its name, type and default; beside them stand doc and check.

A declaration is a frozen dataclass each of whose fields is `Annotated[type, Option(…)]`. Its checks
and its `__machine__` read that; signatures, docstrings and pages are written from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from typing import Any, TypeVar, get_type_hints

D = TypeVar("D")
Check = Callable[[str, str, Any], Any]
"""Takes where an option is given, its name and value; returns what is kept of it, or refuses."""


@dataclass(frozen=True, slots=True)
class Option:
    """What a field does not say of an option."""

    doc: str
    """What it means, for people: goes on after its name, without a full stop."""
    check: Check
    shown: str | None = None
    """How its default reads, where that is not its value."""
    by_domain: bool = False
    """Whether a domain may have another default for it; then None says that it was left out."""


@cache
def options_of(declaration: type) -> dict[str, Option]:
    """Return the options of a dataclass by name, in their order.

    Raises:
        TypeError: A field has none.
    """
    hints = get_type_hints(declaration, include_extras=True)
    return {
        field.name: _option(f"{declaration.__name__}.{field.name}", hints[field.name])
        for field in fields(declaration)
    }


def given(declaration: Callable[..., D], names: Mapping[str, Any]) -> D:
    """Return a declaration of those of *names*, the locals of a function, that are its options.

    One that must be given and is not is None: its check says what is missing.
    """
    return declaration(
        **{
            field.name: names.get(field.name)
            for field in fields(declaration)  # type: ignore[arg-type] # a class, as its caller knows
            if _is_given(field, options_of(declaration)[field.name], names)
        }
    )


def chosen(declaration: type, names: Mapping[str, Any]) -> frozenset[str]:
    """Return which options, of those for which a domain may have a default, *names* gives."""
    return frozenset(
        name
        for name, option in options_of(declaration).items()
        if option.by_domain and names.get(name) is not None
    )


def check_options(declared: Any, where: str) -> None:
    """Replace each option of *declared*, a frozen dataclass, by what is kept of it.

    Raises:
        DefinitionError, WrongValueError: A value that no one can mean, given at *where*.
    """
    for name, option in options_of(declared.__class__).items():
        kept = option.check(where, name, getattr(declared, name))
        object.__setattr__(declared, name, kept)


def _is_given(field: Field[Any], option: Option, names: Mapping[str, Any]) -> bool:
    if field.name not in names:
        return field.default is MISSING
    return not (option.by_domain and names[field.name] is None)


def _option(name: str, hint: object) -> Option:
    for note in getattr(hint, "__metadata__", ()):
        if isinstance(note, Option):
            return note
    raise TypeError(f"{name} has no Option(doc, check) beside its type")

"""What to do about an annotation whose values cannot be stored: the reason, and a way."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

from statejobs.values.argument_values import is_model, is_secret
from statejobs.values.article import indefinite

_WHY = "the arguments of a job are stored as JSON and read back by their annotations"
_OF_UNIONS = "Type unions"
"""How msgspec begins what it says of unions that it cannot tell apart."""


class Hint(NamedTuple):
    """The lines of a message."""

    what: str
    why: str
    fix: str


def hint_for(annotation: object, name: str, problem: str) -> Hint:
    """Return what to say of the parameter *name*, whose *annotation* has a *problem*."""
    parts = [*_parts(annotation)]
    secret = next(
        (part for part in parts if isinstance(part, type) and is_secret(part)), None
    )
    if secret is not None:
        return Hint(
            f"parameter {name!r} holds {indefinite(_name(secret))}",
            "arguments are stored as JSON: a secret would be stored masked, and be of no use to "
            "the job, or in clear, for everybody who reads the table",
            f"keep it where your secrets are, and pass its key: {name}_key: str",
        )
    union = next((part for part in parts if _is_mixed(part)), None)
    if union is not None and problem.startswith(_OF_UNIONS):
        return _of_union(get_args(union), name, problem)
    return Hint(
        f"parameter {name!r} cannot be stored: {problem}", _WHY, _way(parts, name)
    )


def _of_union(members: tuple[Any, ...], name: str, problem: str) -> Hint:
    union = " | ".join(map(_name, members))
    fix = (
        f"a parameter for each, as {name}: {_name(members[0])} | None = None; or one type with a "
        "field that says which"
    )
    if any(map(is_model, members)):
        fix = (
            f"let pydantic tell them apart: class Message(RootModel[{union}]): ..., with "
            "Field(discriminator=…) where a value could be either, and annotate "
            f"{name}: Message"
        )
        problem = ""
    what = f"parameter {name!r} may be any of {union}"
    said = problem.partition(" - type")[0]
    why = f"{_WHY}, and JSON does not say which of them it was"
    return Hint(f"{what}: {said}" if said else what, why, fix)


def _way(parts: list[Any], name: str) -> str:
    of_pydantic = next((p for p in parts if _module(p) == "pydantic"), None)
    if of_pydantic is not None:
        return (
            f"annotate it as str; or make it the field of a model: class Wanted(BaseModel): "
            f"{name}: {_name(of_pydantic)}"
        )
    return "pass a plain value, a dataclass or a pydantic model; for a record, its primary key"


def _parts(annotation: object) -> Iterator[Any]:
    """Return *annotation*, and what it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _is_mixed(annotation: object) -> bool:
    """Return whether it is a union of several types beside None."""
    if get_origin(annotation) not in {Union, UnionType}:
        return False
    return len([part for part in get_args(annotation) if part is not type(None)]) > 1


def _module(kind: object) -> str:
    return str(getattr(kind, "__module__", "")).partition(".")[0]


def _name(kind: object) -> str:
    return "None" if kind is type(None) else getattr(kind, "__name__", str(kind))

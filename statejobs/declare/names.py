"""Names that a resource cannot use: those of statejobs, of its columns, and of each other."""

from __future__ import annotations

import enum
import itertools
import sys
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import MappedColumn

from statejobs.errors import DefinitionError
from statejobs.values.article import indefinite

OURS = frozenset(
    {
        "available_transitions",
        "possible_next_states",
        "state_changed_at",
        "state_version",
        "__machine__",
        "__statejobs__",
    }
)
"""Names that statejobs puts on every resource."""
_MIXIN = "statejobs.declare.mixin"


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return *value* as a tuple: one thing, or several."""
    if value is None:
        return ()
    if isinstance(value, set | frozenset):
        # a set of text has another order in each process
        return tuple(sorted(value, key=_place))
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _place(member: object) -> int:
    return list(type(member)).index(member) if isinstance(member, enum.Enum) else 0


def refuse_second_definition(name: str, *, depth: int) -> None:
    """Refuse a name that the class body, *depth* frames up, has defined already.

    Python itself would silently keep the last one.

    Raises:
        DefinitionError: The name is taken.
    """
    frame = sys._getframe(depth)  # noqa: SLF001 - the only way to see a class body being run
    taken = frame.f_locals.get(name)
    if taken is None or "__qualname__" not in frame.f_locals:
        return
    kind = "column" if isinstance(taken, MappedColumn) else type(taken).__name__.lower()
    several = "; one transition may start from several states: @transition([A, B], C)"
    raise DefinitionError(
        f"{frame.f_locals['__qualname__'].rpartition('.')[2]}.{name}",
        f"there is already {indefinite(kind)} called {name!r}",
        why="Python keeps only the last definition of a name, so the first would be lost",
        fix=f"give one of them another name{several if kind == 'transition' else ''}",
    )


def refuse_names_of_ours(cls: type) -> None:
    """Refuse an attribute, column or declaration that would hide what statejobs adds.

    Raises:
        DefinitionError: With the name.
    """
    theirs = [base for base in cls.__mro__ if "__statejobs__" not in vars(base)]
    for base, name in itertools.product(theirs, sorted(OURS)):
        if base.__module__ == _MIXIN:
            continue
        if name in vars(base) or name in vars(base).get("__annotations__", {}):
            origin = "" if base is cls else f", from {base.__name__},"
            raise DefinitionError(
                f"{cls.__name__}.{name}",
                f"{name!r}{origin} is a name of statejobs",
                why="every resource gets it from StatefulResource, and the runner relies on it",
                fix="give your attribute another name",
            )


def refuse_shadows(cls: type, attribute: str, declared: Mapping[str, Any]) -> None:
    """Refuse declarations with the name of a column."""
    annotated = {
        n for base in cls.__mro__ for n in vars(base).get("__annotations__", {})
    }
    for name in declared:
        if name == attribute or name in annotated:
            raise DefinitionError(
                f"{cls.__name__}.{name}",
                f"the {type(declared[name]).__name__.lower()} {name!r} has the name of a column",
                why="an attribute can be only one of them",
                fix="rename the method",
            )


def refuse_override(cls: type, base: type, name: str, declared: object) -> None:
    """Refuse that *base* hides what was *declared* under *name*."""
    kind = type(declared).__name__.lower()
    raise DefinitionError(
        f"{cls.__name__}.{name}",
        f"{base.__name__} hides the {kind} {name!r} behind something else",
        why="the declared move would still be in the graph, but nothing could fire it",
        fix=f"declare it again with its decorator, or rename the attribute {name!r}",
    )


def key_used_twice(key: str, first: str, second: str) -> DefinitionError:
    """Return the error for two triggers or tasks with one key."""
    return DefinitionError(
        second,
        f"key {key!r} is used by {first} already",
        why="a stored job names its work by the key alone",
        fix="give each a key of its own; in a mixin, say '{resource}.…'",
    )

"""Names that a resource gives to rows of ours, refused when a column would not take them.

SQLite takes any length; on PostgreSQL the flush or the finish of a job would fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column

from statejobs.errors import DefinitionError
from statejobs.store.tables import jobs, transitions

if TYPE_CHECKING:
    from statejobs.record.model import ResourceModel

_SHOWN = 40  # characters of a name that is too long


def refuse_what_is_not_stored(model: ResourceModel) -> None:
    """Refuse a name of *model* that is too long, or that is no text to a database.

    Raises:
        DefinitionError: With the name, and how long it may be.
    """
    for what, name, column in _names(model):
        kind: Any = column.type
        problem = _problem(name, kind.length)
        if problem is not None:
            shown = ascii(name[:_SHOWN]) + ("…" if len(name) > _SHOWN else "")
            raise DefinitionError(
                model.cls.__name__,
                f"{what} {shown} {problem}",
                why="history and jobs keep it, and PostgreSQL would refuse their rows",
                fix="give it another name",
            )


def _problem(name: str, longest: int) -> str | None:
    if len(name) > longest:
        return f"has {len(name)} characters; {longest} can be stored"
    if "\0" in name:
        return "has the character NUL"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "has half a character, a lone surrogate"
    return None


def _names(model: ResourceModel) -> Iterator[tuple[str, str, Column[Any]]]:
    for bound in model.triggers.values():
        for key in (bound.key, *bound.aliases):
            yield "the key", key, jobs.c.key
    yield "its name", model.name, transitions.c.resource
    for state in model.spec.states:
        yield "its state", state, transitions.c.target
    for edge in model.spec.edges:
        is_of_action = "." in edge.name
        yield (
            "the edge" if is_of_action else "the transition",
            edge.name,
            transitions.c.name,
        )

"""The column that holds a state, and the constraint that guards it."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import CheckConstraint, Column, Table, event
from sqlalchemy.orm import MappedColumn, mapped_column
from sqlalchemy.sql.elements import conv

from statejobs.errors import DefinitionError, did_you_mean
from statejobs.store.types import StateType

if TYPE_CHECKING:
    from statejobs.resource.trigger import Trigger

E = TypeVar("E", bound=enum.Enum)
_LONGEST_NAME = 63  # bytes; PostgreSQL cuts identifiers there


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDeclaration:
    """What `state_column` was told."""

    states: type[enum.Enum]
    initial: enum.Enum
    final: tuple[enum.Enum, ...]
    deprecated: tuple[enum.Enum, ...]
    run_trigger: Trigger | None


class DeclaredState(StateType):
    """The type of a state column; it carries the declaration to where the class is made."""

    cache_ok = True
    declaration: StateDeclaration


def state_column(
    states: type[E],
    *,
    initial: E,
    final: Sequence[E] = (),
    deprecated: Sequence[E] = (),
    run_trigger: Trigger | None = None,
    **column_options: Any,
) -> MappedColumn[E]:
    """Declare the attribute that holds the state of a resource.

    Args:
        states: The enum of all states; its values are stored.
        initial: Where creation leads.
        final: States that nothing leaves.
        deprecated: States that rows may still hold, but that nothing enters any more.
        run_trigger: Trigger whose job creation enqueues.
        **column_options: Passed to `mapped_column`, for instance `init=False` under
            `MappedAsDataclass`, or `index=True`.

    Raises:
        DefinitionError: A value is not of the enum, or the enum's values are not text.
    """
    _check_enum(states)
    for option, members in (
        ("initial", (initial,)), ("final", final), ("deprecated", deprecated)
    ):  # fmt: skip
        for member in members:
            check_member(f"state_column({states.__name__})", option, states, member)
    kind = DeclaredState(states)
    kind.declaration = StateDeclaration(
        states=states,
        initial=initial,
        final=tuple(final),
        deprecated=tuple(deprecated),
        run_trigger=run_trigger,
    )
    column: MappedColumn[E] = mapped_column(
        kind, nullable=False, active_history=True, insert_default=initial, **column_options
    )
    event.listen(column.column, "after_parent_attach", _add_check, propagate=True)
    return column


def check_member(where: str, option: str, states: type[enum.Enum], member: object) -> None:
    """Refuse a state that is not a member of *states*.

    Raises:
        DefinitionError: With the closest state of the right enum.
    """
    if isinstance(member, states):
        return
    text = str(member.value) if isinstance(member, enum.Enum) else str(member)
    kind = f"a state of {type(member).__name__}" if isinstance(member, enum.Enum) else "plain text"
    raise DefinitionError(
        where,
        f"{option} {text!r} is {kind}, not a member of {states.__name__}",
        why=f"the column holds {states.__name__} only",
        fix=f"use a member of {states.__name__}; "
        + did_you_mean(text, [str(state.value) for state in states]),
    )


def check_name(table: str, column: str, values: Sequence[str]) -> str:
    """Return the constraint's name; it changes with the states, so that Alembic sees the change."""
    digest = hashlib.sha256("\0".join(sorted(values)).encode()).hexdigest()[:8]
    stem = f"ck_{table}_{column}"
    if len(stem.encode()) > _LONGEST_NAME - 9:
        stem = f"{stem[: _LONGEST_NAME - 18]}_{hashlib.sha256(stem.encode()).hexdigest()[:8]}"
    return f"{stem}_{digest}"


def _check_enum(states: type[enum.Enum]) -> None:
    bad = [m.name for m in states if not isinstance(m.value, str) or not m.value]
    if not bad and len(states):
        return
    raise DefinitionError(
        f"state_column({states.__name__})",
        f"values of {', '.join(bad) or 'no member'} are not text",
        why="states are stored by value, as text, so that databases and people can read them",
        fix=f"make it a StrEnum: class {states.__name__}(StrEnum): DRAFT = 'draft'",
    )


def _add_check(column: Column[Any], table: Table) -> None:
    kind = column.type
    if not isinstance(kind, StateType):
        return
    name = check_name(table.name, column.name, list(kind.members))
    if all(constraint.name != name for constraint in table.constraints):
        listed = ", ".join("'" + value.replace("'", "''") + "'" for value in kind.members)
        quoted = '"' + column.name.replace('"', '""') + '"' if not column.name.isidentifier() else column.name
        table.append_constraint(CheckConstraint(f"{quoted} IN ({listed})", name=conv(name)))

"""The column that holds a state, and the constraint that guards it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from reprlib import repr as short
from typing import Any, TypeVar

from sqlalchemy import Column, Table, event
from sqlalchemy.orm import MappedColumn, mapped_column

from statejobs.declare.run_trigger import RunTrigger, promises_of
from statejobs.errors import DefinitionError, WrongValueError
from statejobs.record.specs import StateSpec
from statejobs.store.check_names import GUARDS_STATES, guard_states
from statejobs.store.old_rows import OLD_ROWS
from statejobs.store.types import StateType
from statejobs.values.article import indefinite
from statejobs.values.kinds import members_of
from statejobs.values.known_options import explain_options

E = TypeVar("E", bound=enum.Enum)
_DECIDED = (
    "active_history",
    "default",
    "deferred_raiseload",
    "insert_default",
    "nullable",
    "onupdate",
    "server_onupdate",
)
_OURS = "statejobs"


class DeclaredState(StateType):
    """The type of a state column; it carries what was written to where the class is made."""

    cache_ok = True
    spec: StateSpec


@explain_options(passed_on=mapped_column)
def state_column(
    states: type[E],
    *,
    initial: E,
    final: Sequence[E] = (),
    deprecated: Sequence[E] = (),
    run_trigger: RunTrigger | None = None,
    **column_options: Any,
) -> MappedColumn[E]:
    """Declare the attribute that holds the state of a resource.

    Args:
        states: The enum of all states; its values are stored.
        initial: Where creation leads.
        final: States that nothing leaves.
        deprecated: States that rows may still hold, but that nothing enters any more.
        run_trigger: Trigger or triggers whose jobs creation enqueues.
        **column_options: Passed to `mapped_column`, for instance `init=False` under
            `MappedAsDataclass`, or `index=True`.

    Raises:
        DefinitionError: A value is not of the enum, the enum's values are not text, or an option
            does not exist.
    """
    given: object = states
    if not (isinstance(given, type) and issubclass(given, enum.Enum)):
        raise WrongValueError(
            f"state_column() takes an enum of the states, not {short(states)}",
            fix=(
                'say class State(StrEnum): DRAFT = "draft", and '
                "state_column(State, initial=State.DRAFT)"
            ),
        )
    _check_enum(states)
    example = f"({states.__name__}.{next(iter(states)).name},)"
    final = members_of(
        f"state_column({states.__name__}): final=", final, example=example
    )
    deprecated = members_of(
        f"state_column({states.__name__}): deprecated=", deprecated, example=example
    )
    _refuse_decided(states, column_options)
    for option, members in (
        ("initial", (initial,)),
        ("final", final),
        ("deprecated", deprecated),
    ):
        for member in members:
            check_member(f"state_column({states.__name__})", option, states, member)
    kind = DeclaredState(states)
    kind.spec = StateSpec(
        states=states,
        initial=initial,
        final=tuple(final),
        deprecated=tuple(deprecated),
        promises=promises_of(run_trigger),
    )
    column: MappedColumn[E] = mapped_column(
        kind,
        nullable=False,
        active_history=True,
        insert_default=initial,
        **column_options,
    )
    column.column.info[OLD_ROWS] = initial.value
    event.listen(column.column, "after_parent_attach", _add_check, propagate=True)
    return column


def check_member(
    where: str, option: str, states: type[enum.Enum], member: object
) -> None:
    """Refuse a state that is not a member of *states*.

    Raises:
        DefinitionError: With the closest state of the right enum.
    """
    if isinstance(member, states):
        return
    raise DefinitionError(
        where,
        f"{option} {not_a_member(states, member)}",
        why=f"the column holds members of {states.__name__} only",
        fix=closest_member(states, member),
    )


def not_a_member(states: type[enum.Enum], member: object) -> str:
    """Return what *member* is, as against a member of *states*."""
    return f"{_described(member)}, not a member of {states.__name__}"


def _described(member: object) -> str:
    if isinstance(member, enum.Enum):
        return f"{member.value!r} is a member of {type(member).__name__}"
    is_text = isinstance(member, str)
    return (
        f"{short(member)} is {'text' if is_text else indefinite(type(member).__name__)}"
    )


def closest_member(states: type[enum.Enum], member: object) -> str:
    """Return a hint that names the member closest to *member*, as code, or all of them."""
    text = str(member.value if isinstance(member, enum.Enum) else member)
    names = {
        known: state.name
        for state in states
        for known in (state.name, str(state.value))
    }
    close = get_close_matches(text, names, n=1)
    if close:
        return f"did you mean {states.__name__}.{names[close[0]]}?"
    return f"use a member of {states.__name__}: {', '.join(states.__members__)}"


def _check_enum(states: type[enum.Enum]) -> None:
    bad = [m.name for m in states if not isinstance(m.value, str) or not m.value]
    if not bad and len(states):
        return
    name = (bad or ["DRAFT"])[0]
    raise DefinitionError(
        f"state_column({states.__name__})",
        f"the value of {name} is not text" if bad else "the enum has no members",
        why="states are stored by value, as text, so that databases and people can read them"
        if bad
        else "a record must start in one of them",
        fix=f"make it a StrEnum: class {states.__name__}(StrEnum): {name} = {name.lower()!r}",
    )


def _refuse_decided(states: type[enum.Enum], options: Mapping[str, Any]) -> None:
    for option in _DECIDED:
        if option in options:
            raise DefinitionError(
                f"state_column({states.__name__})",
                f"{option}= is not yours to set",
                why="a state is never null, starts in `initial`, moves by transitions alone, "
                "and is read when one fires",
                fix="leave it out",
            )
    for key in options.get("info") or ():
        if str(key).startswith(_OURS):
            raise DefinitionError(
                f"state_column({states.__name__})",
                f"the key {key!r} of its info= is a name of statejobs",
                why="statejobs keeps there what it knows of the column",
                fix="give the key another name",
            )


def _add_check(column: Column[Any], table: Table) -> None:
    # A copied table, such as Alembic's, copies the constraint as well: none for a copied column.
    if not isinstance(column.type, StateType) or column.info.get(GUARDS_STATES):
        return
    column.info[GUARDS_STATES] = True
    guard_states(column, table.name, list(column.type.members))

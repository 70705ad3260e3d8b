"""Refuses what is no guard, no permission or no change where one is declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from reprlib import repr as short
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.types import TypeEngine

from statejobs.errors import DefinitionError, did_you_mean
from statejobs.machine.guard import Guard
from statejobs.record.change import Change, ChangeOfKind
from statejobs.record.model import ResourceModel
from statejobs.record.specs import ActionSpec, TransitionSpec
from statejobs.values.article import indefinite
from statejobs.values.call_checks import check_call

_ASKS_GUARD = "a guard is asked with the record, and answers yes or no"
_ASKS_PERMISSION = (
    "a permission is asked with the record and who acts, and answers yes or no"
)
_MAKERS = {"stamp", "set_to", "increment"}


def refuse_other_guard(where: str, guard: object) -> None:
    """Refuse what cannot be asked with a record alone, or always says yes.

    Raises:
        DefinitionError: As said.
    """
    if not callable(guard):
        raise DefinitionError(
            where,
            f"its guard {short(guard)} is {indefinite(type(guard).__name__)}, "
            "which cannot be called",
            why=_ASKS_GUARD,
            fix="give the function itself, declared above: "
            f"guard={_name_of(guard, 'has_amount')}",
        )
    name = getattr(guard, "__name__", type(guard).__name__)
    fix = f"def {name}(self) -> bool"
    check_call(where, f"its guard {name!r}", guard, given=1, why=_ASKS_GUARD, fix=fix)
    sql = Guard.of(guard).sql
    if sql is not None:
        check_call(
            where,
            f"the SQL form of its guard {name!r}",
            sql,
            given=1,
            why="it is asked with the class of the records",
            fix="@guard(sql=lambda order: order.total > 0)",
        )


def refuse_other_permission(where: str, permission: object) -> None:
    """Refuse what cannot be asked with a record and who acts, or always says yes.

    Raises:
        DefinitionError: As said.
    """
    if not callable(permission):
        kind = type(permission).__name__
        raise DefinitionError(
            where,
            f"its permission {short(permission)} is {indefinite(kind)}, which cannot be called",
            why=_ASKS_PERMISSION,
            fix="give the function itself, declared above: "
            f"allow={_name_of(permission, 'is_owner')}",
        )
    name = getattr(permission, "__name__", type(permission).__name__)
    what = f"its permission {name!r}"
    fix = f"def {name}(self, actor) -> bool"
    check_call(where, what, permission, given=2, why=_ASKS_PERMISSION, fix=fix)
    sql = Guard.of(permission).sql
    if sql is not None:
        check_call(
            where,
            f"the SQL form of {what}",
            sql,
            given=2,
            why="it is asked with the class of the records and who acts",
            fix="@guard(sql=lambda order, actor: order.owner == actor)",
        )


def refuse_other_change(where: str, change: object) -> None:
    """Refuse what is no `Change`.

    Raises:
        DefinitionError: As said.
    """
    if isinstance(change, Change):
        return
    name = getattr(change, "__name__", "")
    fix = 'give stamp("charged_at"), or a Change(apply=…, sql=…)'
    if name in _MAKERS:
        fix = f'call it: changes={name}("charged_at")'
    raise DefinitionError(
        where,
        f"its change {name or short(change)} is {indefinite(type(change).__name__)}, not a Change",
        why="bulk needs its form in SQL beside that in Python",
        fix=fix,
    )


def refuse_misfit_changes(
    model: ResourceModel, columns: Mapping[str, ColumnElement[Any]]
) -> None:
    """Refuse changes of attributes that are no column, not theirs to set, or of another kind.

    Args:
        model: Whose changes.
        columns: Attribute → column, of all.

    Raises:
        DefinitionError: With the closest that there is, or what the column holds.
    """
    known = set(columns) - model.machine_names - model.key_names
    for spec, change in _changes_of(model):
        where = f"{model.cls.__name__}.{spec.name}"
        unknown = [name for name in change.attributes if name not in known]
        if unknown:
            raise DefinitionError(
                where,
                f"its change {change.name} sets {unknown[0]!r}, which is no column that it may set",
                why="it would be lost, or refused when somebody fires it",
                fix=did_you_mean(unknown[0], known),
            )
        if isinstance(change, ChangeOfKind):
            _refuse_other_kind(where, change, columns)


def _refuse_other_kind(
    where: str, change: ChangeOfKind, columns: Mapping[str, ColumnElement[Any]]
) -> None:
    """Refuse *change* where a column is known to hold something else."""
    for name in change.attributes:
        kind = columns[name].type
        held = _held_by(kind)
        if held is object or held in change.kinds:
            continue
        raise DefinitionError(
            where,
            f"its change {change.name} sets {name!r}, which holds no {change.holds}: "
            f"it is {indefinite(type(kind).__name__)}",
            why="the database would refuse the record, or keep what nobody can read",
            fix=f"name a column that holds a {change.holds}; "
            f"set_to({name!r}, …) sets any value",
        )


def _held_by(kind: TypeEngine[Any]) -> type:
    """Return what a column of *kind* holds; object where nobody can tell.

    A type of the user's own may make a text of a time: it says object, as JSON does.
    """
    try:
        return kind.python_type
    except NotImplementedError:  # so SQLAlchemy 2.0 says it
        return object


def _changes_of(
    model: ResourceModel,
) -> Iterator[tuple[TransitionSpec | ActionSpec, Change]]:
    for transition in model.transitions.values():
        yield from ((transition, change) for change in transition.changes)
    for bound in model.triggers.values():
        yield from ((bound.action, change) for change in bound.action.changes)


def _name_of(guard: object, example: str) -> str:
    return guard if isinstance(guard, str) and guard.isidentifier() else example

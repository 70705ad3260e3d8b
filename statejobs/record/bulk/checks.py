"""What a transition must be to run in bulk, and the errors that say what it is not."""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnExpressionArgument

from statejobs.acting import current_acting, current_actor, is_system
from statejobs.errors import BulkError, did_you_mean
from statejobs.machine.guard import Guard
from statejobs.record.model import ResourceModel, models_within
from statejobs.record.specs import TransitionSpec
from statejobs.store.bulk_move import is_of_tenant
from statejobs.store.bulk_preview import as_condition
from statejobs.values.article import indefinite

Values = Mapping[Any, Any]  # a Mapping is invariant in its keys: no union would fit
"""Attribute, or its name → Python value or SQL expression."""

Condition = tuple[str, ColumnExpressionArgument[bool]]
"""Name of a guard or a permission, and what it asks in SQL."""

_EMPTY = {
    "RESUME",
    "NOP",
    "LOAD_CONST",
    "RETURN_VALUE",
    "RETURN_CONST",
    "RETURN_GENERATOR",
    "POP_TOP",
    "CALL_INTRINSIC_1",
    "RERAISE",
}
"""What a body that does nothing is compiled to, `async` or not."""


def model_of(cls: type, declared: TransitionSpec) -> ResourceModel:
    """Return the model of *cls* when all its records move by *declared* in one way.

    Raises:
        BulkError: It is no resource, or a subclass declares the transition anew.
    """
    where = _where(cls, declared)
    model: ResourceModel | None = getattr(cls, "__statejobs__", None)
    if model is None:
        raise BulkError(
            where,
            f"{cls.__name__} is not a resource",
            why="a mixin has no records of its own",
            fix=f"call it on a resource that has {declared.name!r}",
        )
    for other in models_within(model):
        if _differs(model, other, declared):
            name = other.cls.__name__
            raise BulkError(
                where,
                f"for {indefinite(name)} it is another transition, or runs another action",
                why=f"every {name} is {indefinite(cls.__name__)}, "
                "and one statement moves all in one way",
                fix=f"declare it only once, or move each class by itself, {name} first",
            )
    return model


def refuse_body(declared: TransitionSpec, values: Values | None) -> None:
    """Refuse a body that does something, unless *values* say what it would have written."""
    if values is not None or _is_empty(declared.body):
        return
    raise BulkError(
        _name(declared),
        "its body is Python code, which bulk does not run",
        why="a body runs for one record at a time, and bulk reads no record",
        fix='say what it would have written: values={"coupon": None}; values={} for nothing',
    )


def guards_in_sql(cls: type, declared: TransitionSpec) -> Iterator[Condition]:
    """Return the guards of *declared* as conditions on columns of *cls*.

    Raises:
        BulkError: A guard has no SQL form, or its form is not SQL.
    """
    for guard in map(Guard.of, declared.guards):
        form = _sql_of(cls, declared, guard, example="lambda order: order.total > 0")
        yield guard.name, _condition(cls, declared, guard, form(cls))


def named_tenant_in_sql(
    model: ResourceModel,
) -> Iterator[Condition]:
    """Return that the records are of the tenant whom somebody named, if anybody did."""
    acting = current_acting()
    column = model.tenant_column
    if column is not None and acting.is_named and acting.tenant is not None:
        yield "__tenant__", is_of_tenant(column, acting.tenant)


def permissions_in_sql(cls: type, declared: TransitionSpec) -> Iterator[Condition]:
    """Return what *declared* asks of who acts as conditions on columns of *cls*.

    Raises:
        BulkError: As of guards; but one that asks nothing of the record may return a bool.
    """
    if is_system():
        return
    actor = current_actor()
    for permission in declared.permissions:
        example = "lambda order, actor: order.owner == actor"
        form = _sql_of(cls, declared, permission, example=example)
        says = form(cls, actor)
        if isinstance(says, bool):
            yield permission.name, as_condition(says=says)
        else:
            yield permission.name, _condition(cls, declared, permission, says)


def changes_in_sql(
    model: ResourceModel, declared: TransitionSpec, at: datetime
) -> dict[Column[Any], Any]:
    """Return what the changes of *declared* write, at a time, by column.

    Raises:
        BulkError: A change has no SQL form, or its form writes no column of the table.
    """
    found: dict[Column[Any], Any] = {}
    for change in declared.changes:
        if change.sql is None:
            raise BulkError(
                _where(model.cls, declared),
                f"its change {change.name} has no SQL form",
                why="bulk reads no record",
                fix="give the Change one: sql=lambda cls, now: {'coupon': None}",
            )
        written = change.sql(model.cls, at)
        by = f"its change {change.name}"
        found |= values_in_sql(model, declared, written, by=by)
    return found


def values_in_sql(
    model: ResourceModel, declared: TransitionSpec, values: Values, *, by: str
) -> dict[Column[Any], Any]:
    """Return *values*, which are given *by* something, by their column in the table of the state.

    Raises:
        BulkError: One is no column of that table, or not a caller's to set.
    """
    mapper = model.mapper
    table = model.table
    found: dict[Column[Any], Any] = {}
    for given, value in values.items():
        name = given if isinstance(given, str) else given.key
        if name not in mapper.columns:
            hint = did_you_mean(name, mapper.columns.keys())
            raise _no_column(model, declared, name, hint, by=by)
        column = mapper.columns[name]
        if (
            name in {model.attribute, "state_version", "state_changed_at"}
            or column.primary_key
        ):
            fix = "leave it out; the transition decides it"
            raise _no_column(model, declared, name, fix, by=by)
        if column.table is not table:
            fix = f"only columns of {table.name} can be set"
            raise _no_column(model, declared, name, fix, by=by)
        found[column] = value
    return found


def _sql_of(
    cls: type, declared: TransitionSpec, guard: Guard, *, example: str
) -> Callable[..., object]:
    if guard.sql is not None:
        return guard.sql
    raise BulkError(
        _where(cls, declared),
        f"its {guard.kind} {guard.name!r} has no SQL form",
        why=f"bulk asks {guard.kind}s in the statement that moves the records",
        fix=f"decorate {guard.name!r} with @guard(sql={example}), "
        "with a condition that means the same",
    )


def _condition(cls: type, declared: TransitionSpec, guard: Guard, says: Any) -> Any:
    if hasattr(says, "__clause_element__") or hasattr(says, "compile"):
        return says
    raise BulkError(
        _where(cls, declared),
        f"the SQL form of its {guard.kind} {guard.name!r} returned {says!r}",
        why="it must be a condition on columns, not a value of Python",
        fix="use operators that make SQL: ==, >, &, |, ~, .is_(None), .in_([…])",
    )


def _differs(
    model: ResourceModel, other: ResourceModel, declared: TransitionSpec
) -> bool:
    if other.transitions.get(declared.name) is not declared:
        return True
    same_actions = all(
        model.by_spec[promise.trigger].action is other.by_spec[promise.trigger].action
        for promise in declared.promises
    )
    return not same_actions or model.has_history != other.has_history


def _is_empty(body: Any) -> bool:
    code = getattr(body, "__code__", None)
    if code is None or hasattr(body, "__wrapped__"):
        return False
    return all(
        i.opname in _EMPTY
        and (i.opname not in {"LOAD_CONST", "RETURN_CONST"} or i.argval is None)
        for i in dis.get_instructions(code)
    )


def _no_column(
    model: ResourceModel, declared: TransitionSpec, name: str, fix: str, *, by: str
) -> BulkError:
    return BulkError(
        _where(model.cls, declared),
        f"{by} cannot set {name!r}",
        why="they are written by the statement that moves the records",
        fix=fix,
    )


def _where(cls: type, declared: TransitionSpec) -> str:
    return f"{cls.__name__}.{declared.name}.bulk"


def _name(declared: TransitionSpec) -> str:
    return f"{declared.label}.bulk"

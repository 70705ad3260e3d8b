"""Of which records a tick makes jobs: what `where=` and `order_by=` of a trigger say of a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from reprlib import repr as short
from typing import Any

from sqlalchemy import ColumnElement, Dialect

from statejobs.errors import BulkError, DefinitionError, StateJobsError
from statejobs.record.model import ResourceModel
from statejobs.record.schedule_spec import ScheduleSpec
from statejobs.record.specs import BoundTrigger
from statejobs.store.candidates import (
    Candidates,
    as_clause,
    candidates_among,
    check_query,
    kind_of_no_condition,
    strangers_among,
    values_in,
)
from statejobs.store.key_text import key_text
from statejobs.values.call_checks import misfit

_FIX = "use operators that make SQL: ==, <, &, |, ~, .is_(None), .in_([…])"


@lru_cache(maxsize=1024)
def candidates_of(model: ResourceModel, bound: BoundTrigger) -> Candidates:
    """Return which records of *model* a tick of *bound* may pick.

    Raises:
        DefinitionError: `where=` or `order_by=` returns something else than it should.
    """
    schedule = bound.schedule
    assert schedule is not None  # noqa: S101 - only who ticks is asked
    where = f"{model.cls.__name__}.{bound.name}"
    return candidates_among(
        model.cls,
        model.records,
        bound.sources,
        matches=_condition(where, schedule, model.cls),
        order_by=tuple(_order(where, schedule, model.cls)),
    )


def check_schedule(model: ResourceModel, bound: BoundTrigger, dialect: Dialect) -> None:
    """Refuse what no statement could pick records of *model* by.

    Raises:
        DefinitionError: A function raises, returns something else, or names another class; or no
            SQL makes the text of a key.
    """
    where = f"{model.cls.__name__}.{bound.name}"
    _check_key(where, model, dialect)
    try:
        candidates = candidates_of(model, bound)
        strangers = strangers_among(candidates)
        is_steady = _is_steady(model.cls, bound, candidates)
        check_query(candidates, dialect)
    except StateJobsError:
        raise
    except Exception as error:
        raise DefinitionError(
            where,
            f"its schedule cannot be asked for: {type(error).__name__}: {error}",
            why="where= and order_by= say of which records each tick makes jobs",
            fix="where=lambda: Order.created_at < ago(hours=24)",
        ) from error
    if strangers:
        raise _names_others(where, model.cls, strangers)
    if not is_steady:
        raise DefinitionError(
            where,
            "its where= returned another value when it was asked again",
            why="it is asked once, when the app is made: the time of that, or a chance, would "
            "hold for every tick",
            fix="compare with ago(hours=24), or with func.random(), which the database asks",
        )


def _is_steady(cls: type, bound: BoundTrigger, candidates: Candidates) -> bool:
    """Return whether `where=` says the same twice; else it has read a clock of Python."""
    assert bound.schedule is not None  # noqa: S101 - only who ticks is asked
    again = as_clause(_asked(bound.schedule.where, cls))
    return again is not None and values_in(again) == values_in(candidates.matches)


def _check_key(where: str, model: ResourceModel, dialect: Dialect) -> None:
    try:
        key_text(model.records.keys, dialect, where=where)
    except BulkError as error:
        raise DefinitionError(
            where,
            error.what,
            why="a tick names the records of its jobs in SQL, for integers, text and UUIDs",
            fix="give it a key of such columns; or enqueue its jobs one by one, in a "
            "@scheduled_action",
        ) from error


def _condition(where: str, schedule: ScheduleSpec, cls: type) -> ColumnElement[bool]:
    said = _asked(schedule.where, cls)
    clause = as_clause(said)
    if clause is None:
        raise _no_condition(where, said)
    kind = kind_of_no_condition(clause)
    if kind is not None:
        raise DefinitionError(
            where,
            f"its where= returned {clause}, which is {kind}, and no condition",
            why="a tick picks the records for which it is true",
            fix=_FIX,
        )
    return clause


def _no_condition(where: str, said: object) -> DefinitionError:
    meant = "; or where=everything, if each of them is meant" if said is True else ""
    return DefinitionError(
        where,
        f"its where= returned {short(said)}, which is no SQL",
        why="the database picks the records for which it is true",
        fix=f"{_FIX}{meant}",
    )


def _order(
    where: str, schedule: ScheduleSpec, cls: type
) -> Sequence[ColumnElement[Any]]:
    if schedule.order_by is None:
        return []
    said = _asked(schedule.order_by, cls)
    several = said if isinstance(said, list | tuple) else [said]
    clauses = [as_clause(one) for one in several]
    found = [clause for clause in clauses if clause is not None]
    if found and len(found) == len(several):
        return found
    raise DefinitionError(
        where,
        f"its order_by= returned {short(said)}, which is no SQL",
        why="the database sorts the records by it",
        fix="order_by=lambda: Order.created_at; or a list: "
        "lambda: [Order.priority, Order.created_at.desc()]",
    )


def _asked(function: Callable[..., Any], cls: type) -> Any:
    """Return what *function* says: one without arguments knows its class by name."""
    return function() if misfit(function, 0) is None else function(cls)


def _names_others(where: str, cls: type, others: Sequence[str]) -> DefinitionError:
    listed = " and ".join(others)
    return DefinitionError(
        where,
        f"its where= or order_by= names {listed} without a join",
        why=f"each {cls.__name__} would be paired with each row of it",
        fix="ask by a subquery: where=lambda: Order.customer.has(Customer.is_vip), "
        "or Order.customer_id.in_(select(Customer.id).where(…))",
    )

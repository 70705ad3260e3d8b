"""`ago` and `everything`: what the condition of a schedule is made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BinaryExpression,
    BindParameter,
    ColumnElement,
    Date,
    DateTime,
    Dialect,
    bindparam,
    true,
)
from sqlalchemy.sql import operators
from sqlalchemy.sql.visitors import ExternallyTraversible, iterate
from sqlalchemy.types import NullType, TypeDecorator

from statejobs.errors import DefinitionError, WrongValueError
from statejobs.store.conditions import FIRST_TIME
from statejobs.store.types import UtcDateTime, type_on_postgresql
from statejobs.values.clock import utcnow
from statejobs.values.wait import positive_wait

_at: ContextVar[datetime | None] = ContextVar("statejobs_ago_at", default=None)


def ago(
    span: timedelta | None = None,
    *,
    days: float = 0,
    hours: float = 0,
    minutes: float = 0,
    seconds: float = 0,
) -> ColumnElement[datetime]:
    """Return the time so long ago, for the `where` of a schedule.

    It is read when its statement runs: in a tick it is so long before the moment at which that
    began, for all its records; at a claim, and in statements of yours, so long before now.
    Compared with a column that has no time zone, it is in UTC.

    Raises:
        WrongValueError: The span is not positive, or a number without a unit.
    """
    units = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
    wait = positive_wait(
        "ago()",
        span,
        units,
        example="ago(hours=24)",
        longest=timedelta.max,
        called="span",
    )
    return bindparam(None, callable_=_Past(wait), type_=UtcDateTime(), unique=True)


def everything() -> ColumnElement[bool]:
    """Say on purpose that a schedule has no condition: `where=everything`."""
    return true()


@contextmanager
def ago_at(moment: datetime) -> Iterator[None]:
    """Let `ago` reckon from *moment* in the statements that run inside.

    Raises:
        WrongValueError: It has no time zone.
    """
    if moment.tzinfo is None:
        raise WrongValueError(
            f"naive datetime {moment!r}",
            where="ago_at()",
            why="its instant is unknown",
            fix="give it a time zone, for instance datetime(..., tzinfo=UTC)",
        )
    before = _at.set(moment)
    try:
        yield
    finally:
        _at.reset(before)


def fit_to_columns(condition: ExternallyTraversible) -> None:
    """Let each `ago` in *condition* be as the column with which it is compared.

    Raises:
        DefinitionError: One of them is compared with columns of both kinds, or with what is no
            time; or a time of Python has no zone, and its column has one.
    """
    for part in iterate(condition):
        if isinstance(part, BinaryExpression):
            _refuse_misfits(part, part.left, part.right)
            _refuse_misfits(part, part.right, part.left)
            _fit(part.left, part.right)
            _fit(part.right, part.left)
        elif isinstance(part, BindParameter):
            _refuse_naive(part)


@dataclass(frozen=True, slots=True)
class _Past:
    """How long ago; called when a statement runs."""

    span: timedelta

    def __call__(self) -> datetime:
        at = _at.get() or utcnow()
        return at - min(self.span, at - FIRST_TIME)


class _NaiveUtc(TypeDecorator[datetime]):
    """A time in UTC, for columns that have no time zone."""

    impl = DateTime(timezone=False)
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Send UTC without saying so."""
        del dialect
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)


def _refuse_misfits(
    comparison: BinaryExpression[Any],
    past: ColumnElement[object],
    other: ColumnElement[object],
) -> None:
    """Refuse *past*, if it is an `ago`, where the database could only guess what is meant."""
    if not _is_ago(past):
        return
    if comparison.operator in {operators.add, operators.sub}:
        raise DefinitionError(
            "ago()",
            "something is added to it, or taken from it",
            why="it is reckoned when its statement runs, by itself",
            fix="say it in its span: ago(days=2)",
        )
    affinity = other.type._type_affinity  # noqa: SLF001 - below decorators
    if affinity is not None and not issubclass(affinity, DateTime | Date | NullType):
        raise DefinitionError(
            "ago()",
            f"it is compared with {other}, which is {other.type!r} and holds no time",
            why="it is an instant: a database would refuse it, or compare it as text",
            fix="compare it with a column of times",
        )


def _refuse_naive(part: BindParameter[Any]) -> None:
    """Refuse a time without a zone that a statement would refuse to send at each tick."""
    value = None if _is_ago(part) else part.value
    is_naive = isinstance(value, datetime) and value.tzinfo is None
    if is_naive and isinstance(part.type, UtcDateTime):
        raise DefinitionError(
            "where=",
            f"naive datetime {value!r}",
            why="its instant is unknown, and it is compared with a column of instants",
            fix="give it a time zone, for instance datetime(..., tzinfo=UTC)",
        )


def _fit(column: ColumnElement[object], other: ColumnElement[object]) -> None:
    stored = type_on_postgresql(column.type)
    if not isinstance(stored, DateTime) or _is_ago(column):
        return
    for found in iterate(other):
        if isinstance(found, BindParameter) and _is_ago(found):
            _choose(found, is_naive=not stored.timezone)


def _choose(past: BindParameter[datetime], *, is_naive: bool) -> None:
    if not is_naive and isinstance(past.type, _NaiveUtc):
        raise DefinitionError(
            "ago()",
            "one ago() is compared with a column that has a time zone, "
            "and with one that has none",
            why="its value is sent as the column has it",
            fix="call ago() for each of them",
        )
    if is_naive:
        past.type = _NaiveUtc()


def _is_ago(found: object) -> bool:
    return isinstance(found, BindParameter) and isinstance(found.callable, _Past)

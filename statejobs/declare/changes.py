"""The changes that most machines need."""

from __future__ import annotations

from copy import deepcopy
from datetime import date, datetime
from decimal import Decimal
from reprlib import repr as short
from typing import Any

from sqlalchemy import Date, DateTime
from sqlalchemy.orm import class_mapper

from statejobs.record.change import Change, ChangeContext, ChangeOfKind
from statejobs.store.bulk_move import added_to
from statejobs.values.kinds import check_number, check_text

_TIMES = frozenset({datetime, date})
_NUMBERS = frozenset({int, float, Decimal})


def stamp(attribute: str) -> Change:
    """Set *attribute* to the time of the move: `changes=stamp("charged_at")`.

    A column of `Date` gets the day, one of `DateTime` without a time zone a naive time, in UTC. A
    class whose column holds no time is refused.
    """
    name = _named("stamp", attribute, example="charged_at")

    def apply(record: Any, ctx: ChangeContext) -> None:
        setattr(record, attribute, _fitting(type(record), attribute, ctx.now))

    return ChangeOfKind(
        apply=apply,
        sql=lambda cls, now: {attribute: _fitting(cls, attribute, now)},
        name=name,
        attributes=(attribute,),
        holds="time",
        kinds=_TIMES,
    )


def set_to(attribute: str, value: Any) -> Change:
    """Set *attribute* to *value*; each record has a copy of its own."""
    _named("set_to", attribute, example="coupon")

    def apply(record: Any, _ctx: ChangeContext) -> None:
        setattr(record, attribute, deepcopy(value))

    return Change(
        apply=apply,
        sql=lambda _cls, _now: {attribute: value},
        name=f"set_to({attribute!r}, {short(value)})",
        attributes=(attribute,),
    )


def increment(attribute: str, by: float | Decimal = 1) -> Change:
    """Add *by* to *attribute*; None counts as 0."""
    name = _named("increment", attribute, example="reminders")
    if not isinstance(by, Decimal):
        check_number(f"{name}: by", by)

    def apply(record: Any, _ctx: ChangeContext) -> None:
        setattr(record, attribute, (getattr(record, attribute) or 0) + by)

    return ChangeOfKind(
        apply=apply,
        sql=lambda cls, _now: {attribute: added_to(getattr(cls, attribute), by)},
        name=name,
        attributes=(attribute,),
        holds="number",
        kinds=_NUMBERS,
    )


def _named(call: str, attribute: str, *, example: str) -> str:
    check_text(f"{call}(attribute)", attribute, example=example)
    return f"{call}({attribute!r})"


def _fitting(cls: type, attribute: str, now: datetime) -> datetime | date:
    """Return the time as the column of *attribute* holds times."""
    kind = class_mapper(cls).columns[attribute].type
    if isinstance(kind, Date):
        return now.date()
    if isinstance(kind, DateTime) and not kind.timezone:
        return now.replace(tzinfo=None)
    return now

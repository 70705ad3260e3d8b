"""Records that have been in a state for as long as they may, in the order of its index."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    ColumnExpressionArgument,
    Connection,
    Select,
    and_,
    select,
    true,
    tuple_,
)

from statejobs.store.records import Identity, RecordTable


class Milestone(NamedTuple):
    """A place in the order in which records are swept: behind one of them."""

    since: datetime
    identity: Identity


class DueRecord(NamedTuple):
    """A record of a stretch."""

    milestone: Milestone
    may_fire: bool
    """Whether no guard refuses that is asked in SQL."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DueRange:
    """Records of one state, from a milestone on, whose time in it was over at an instant."""

    whole: Any
    """What the rows are mapped to."""
    state: Any
    """Its attribute that holds the state."""
    records: RecordTable
    source: enum.Enum
    until: datetime
    """They have been there since then, or longer."""
    after: Milestone | None

    def condition(self, *, upto: Milestone | None = None) -> ColumnElement[bool]:
        """Return what selects them, or those *upto* a milestone."""
        chosen = [
            self.state == self.source,
            self.records.changed_at <= self.until,
        ]
        if self.after is not None:
            chosen.append(self._place > _flat(self.after))
        if upto is not None:
            chosen.append(self._place <= _flat(upto))
        return and_(*chosen)

    @property
    def _place(self) -> Any:
        return tuple_(self.records.changed_at, *self.records.keys)


def find_due(
    connection: Connection,
    stretch: DueRange,
    guards: Sequence[ColumnExpressionArgument[bool]],
    *,
    limit: int,
) -> list[DueRecord]:
    """Find the first records of a stretch, those too that *guards* refuse: they are passed by."""
    return [
        DueRecord(Milestone(since, tuple(identity)), bool(may_fire))
        for since, may_fire, *identity in connection.execute(
            _next_due(stretch, guards, limit)
        )
    ]


def _next_due(
    stretch: DueRange, guards: Sequence[ColumnExpressionArgument[bool]], limit: int
) -> Select[Any]:
    records = stretch.records
    asked: ColumnElement[bool] = and_(true(), *guards)
    return (
        select(records.changed_at, asked, *records.keys)
        .select_from(stretch.whole)
        .where(stretch.condition())
        .order_by(records.changed_at, *records.keys)
        .limit(limit)
    )


def _flat(milestone: Milestone) -> tuple[Any, ...]:
    return (milestone.since, *milestone.identity)

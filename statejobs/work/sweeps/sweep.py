"""One sweep: comes by records whose time in a state is over, and moves those that may."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from statejobs.errors import BulkError
from statejobs.record.bulk.due import asked_in_sql, move_due
from statejobs.record.timeouts import StateTimeout
from statejobs.runner.blame import is_everyones
from statejobs.store.store import Store
from statejobs.store.timeouts import DueRange, DueRecord, Milestone, find_due
from statejobs.values.clock import Clock
from statejobs.work.sweeps.cursor import places_after, written
from statejobs.work.sweeps.each import AT_ONCE, Each

MOST = 10_000
"""Records that one sweep comes by."""
_PATIENCE = 5.0
"""Seconds after which a sweep through the ORM leaves the rest to the next."""


@dataclass(slots=True, kw_only=True)
class Swept:
    """What one sweep of a timeout came by."""

    seen: int = 0
    moved: int = 0
    cursor: str | None = None
    """Where the next goes on; None: at the start."""
    oldest: datetime | None = None
    """Since when that one was in its state which was there longest and moved."""

    @property
    def is_more(self) -> bool:
        """Whether the next is due at once; where nothing moved, there is no hurry."""
        return self.cursor is not None and self.moved > 0


@dataclass(frozen=True, kw_only=True)
class Sweeping:
    """Sweeps a timeout: by one statement, or record by record where SQL alone cannot."""

    store: Store
    clock: Clock
    open_session: Callable[[], Session]
    each: Each = field(init=False)

    def __post_init__(self) -> None:
        """Let both open the same sessions."""
        each = Each(open_session=self.open_session, dialect=self.store.dialect)
        object.__setattr__(self, "each", each)

    def sweep(self, timeout: StateTimeout, cursor: str | None, *, most: int) -> Swept:
        """Come by the next records that are due, from *cursor* on, and move those that may."""
        swept = Swept()
        until = self.clock.now() - timeout.after
        ends_at = self.clock.monotonic() + _PATIENCE
        for source, milestone in places_after(timeout, cursor):
            stretch = _stretch(timeout, source, until, milestone)
            found = self._find(timeout, stretch, limit=most - swept.seen)
            if not found:
                continue
            last = self._move(timeout, stretch, found, swept, ends_at=ends_at)
            if last is not found[-1] or swept.seen >= most:
                swept.cursor = written(source, last.milestone)
                return swept
        return swept

    def _find(
        self, timeout: StateTimeout, stretch: DueRange, *, limit: int
    ) -> list[DueRecord]:
        guards = asked_in_sql(timeout)
        try:
            with self.store.unwaiting() as connection:
                return find_due(connection, stretch, guards, limit=limit)
        except Exception as error:
            if not guards or is_everyones(error):
                raise
        # one of them may be to blame: each is asked by itself
        with self.store.unwaiting() as connection:
            return find_due(connection, stretch, [], limit=limit)

    def _move(
        self,
        timeout: StateTimeout,
        stretch: DueRange,
        found: Sequence[DueRecord],
        swept: Swept,
        *,
        ends_at: float,
    ) -> DueRecord:
        """Move those of *found* that may; return the last that it came by."""
        if not any(one.may_fire for one in found):
            swept.seen += len(found)
            return found[-1]
        moved = self._move_together(timeout, stretch, found)
        if moved is None:
            return self._move_each(timeout, stretch, found, swept, ends_at=ends_at)
        _note(swept, found, moved)
        return found[-1]

    def _move_together(
        self, timeout: StateTimeout, stretch: DueRange, found: Sequence[DueRecord]
    ) -> int | None:
        """Return how many one statement moved; None where it cannot."""
        try:
            with self.open_session() as session, session.begin():
                return move_due(session, timeout, stretch, upto=found[-1].milestone)
        except BulkError:
            return None
        except Exception as error:
            if is_everyones(error):
                raise
            return None  # one of them may be to blame

    def _move_each(
        self,
        timeout: StateTimeout,
        stretch: DueRange,
        found: Sequence[DueRecord],
        swept: Swept,
        *,
        ends_at: float,
    ) -> DueRecord:
        last = found[0]
        for start in range(0, len(found), AT_ONCE):
            part = found[start : start + AT_ONCE]
            last = part[-1]
            due = [one.milestone.identity for one in part if one.may_fire]
            moved = self.each.fire(timeout, stretch, due) if due else 0
            _note(swept, part, moved)
            if self.clock.monotonic() >= ends_at:
                break
        return last


def _note(swept: Swept, found: Sequence[DueRecord], moved: int) -> None:
    swept.seen += len(found)
    swept.moved += moved
    if moved and swept.oldest is None:
        swept.oldest = next(one.milestone.since for one in found if one.may_fire)


def _stretch(
    timeout: StateTimeout, source: enum.Enum, until: datetime, after: Milestone | None
) -> DueRange:
    model = timeout.model
    return DueRange(
        whole=model.cls,
        state=getattr(model.cls, model.attribute),
        records=model.records,
        source=source,
        until=until,
        after=after,
    )

"""One page of a tick: how large it is, what it writes, and whether another follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from sqlalchemy import Connection

from statejobs.record.identity import decode_identity, encode_identity
from statejobs.record.model import ResourceModel
from statejobs.record.schedule_spec import ScheduleSpec
from statejobs.record.specs import BoundTrigger
from statejobs.store.ago import ago_at
from statejobs.store.pages import (
    NOTHING,
    Page,
    Picking,
    Written,
    enqueue_picked,
    read_page,
    settle_keys,
    write_page,
)
from statejobs.store.records import Identity
from statejobs.store.unfinished_ticks import UnfinishedTick, note_page
from statejobs.values.clock import IdSource
from statejobs.values.job import NewJob
from statejobs.values.redaction import Redaction
from statejobs.values.text import REASON_LIMIT, shown_text
from statejobs.work.schedules.picking import (
    AT_ONCE,
    columns_of_all,
    jobs_of_each,
    reads_records,
    times_due,
)

LESS = 10
"""So much smaller is a page that follows one which met a lock."""


class Total(NamedTuple):
    """What a whole tick came to."""

    enqueued: int
    skipped: int
    reason: str | None
    """Why not of one that was skipped."""


@dataclass(frozen=True, kw_only=True)
class TickPage:
    """The next page of a tick, which is locked."""

    connection: Connection
    model: ResourceModel
    bound: BoundTrigger
    picking: Picking
    tick: UnfinishedTick
    now: datetime
    ids: IdSource
    redaction: Redaction
    most: int | None
    """Fewer records than usual, since a larger page has met a lock; 0 passes over the next."""

    def write(self) -> Total | None:
        """Write it; return what the tick came to where this was its last page."""
        with ago_at(self.tick.began_at):
            written = self._pass_over() if self.most == 0 else self._write()
        is_done = self._is_last(written)
        said = written.reason or self.tick.reason
        reason = said and shown_text(said, REASON_LIMIT, self.redaction)
        end = None if self._is_sorted else written.last
        note_page(
            self.connection,
            self.tick,
            cursor=self.tick.cursor if end is None else encode_identity(end),
            enqueued=written.enqueued,
            skipped=written.skipped,
            reason=reason,
            done_at=self.now if is_done else None,
        )
        if not is_done:
            return None
        return Total(
            self.tick.enqueued + written.enqueued,
            self.tick.skipped + written.skipped,
            reason,
        )

    @property
    def smaller(self) -> int | None:
        """How many the next may have after a lock that this one has met; None: as many."""
        less = self.size // LESS
        if self._is_sorted and not less:
            return None  # without a cursor nothing can be passed over
        return less

    @property
    def size(self) -> int:
        """How many records it has at most."""
        return self.usual if self.most is None else min(self.usual, self.most or 1)

    def _write(self) -> Written:
        if not self.size:
            return NOTHING
        if self._reads_records:
            return self._write_each()
        salt = self.ids()
        return write_page(
            self.connection,
            self.picking,
            self._page,
            columns_of_all(
                self.model, self.bound, now=self.now, tick_at=self.tick.at, salt=salt
            ),
            salt=salt,
            due=times_due(self.bound, self.now),
        )

    def _write_each(self) -> Written:
        """Load the records, and make the job of each of them."""
        settle_keys(self.connection, self.picking, self._page)
        found = read_page(self.connection, self.picking, self._page)
        enqueued = 0
        bad: list[str] = []
        for start in range(0, len(found), AT_ONCE):
            made, failed = self._jobs_of(found[start : start + AT_ONCE])
            bad += failed
            if made:
                enqueued += enqueue_picked(self.connection, made)
        return Written(
            found=len(found),
            enqueued=enqueued,
            last=found[-1] if found else None,
            skipped=len(bad),
            reason=bad[0] if bad else None,
        )

    def _jobs_of(self, part: Sequence[Identity]) -> tuple[list[NewJob], list[str]]:
        made = jobs_of_each(
            self.connection,
            self.model,
            self.bound,
            part,
            now=self.now,
            tick_at=self.tick.at,
            ids=self.ids,
        )
        jobs: list[NewJob] = []
        bad: list[str] = []
        for one in made:
            if isinstance(one, str):
                bad.append(one)
            else:
                jobs.append(one)
        return jobs, bad

    def _pass_over(self) -> Written:
        """Leave out a record whose job somebody is enqueuing, or has in hand."""
        found = read_page(self.connection, self.picking, self._page)
        last = found[0] if found else None
        label = "" if last is None else encode_identity(last)
        reason = f"{self.model.name} {label}: somebody else has its job in hand"
        return Written(
            found=len(found), enqueued=0, last=last, skipped=len(found), reason=reason
        )

    def _is_last(self, written: Written) -> bool:
        if written.found < self.size or not self.size:
            return True
        total = self.tick.enqueued + written.enqueued
        if self._schedule.limit is not None and total >= self._schedule.limit:
            return True
        # a page that is sorted has no end after which another could begin
        return self._is_sorted and (self.size == self.usual or not written.enqueued)

    @cached_property
    def _page(self) -> Page:
        cursor = self.tick.cursor
        after = None if cursor is None else decode_identity(self.model.mapper, cursor)
        return Page(after=after, size=self.size, now=self.now)

    @cached_property
    def _schedule(self) -> ScheduleSpec:
        assert self.bound.schedule is not None  # noqa: S101 - only those tick
        return self.bound.schedule

    @property
    def _is_sorted(self) -> bool:
        return self._schedule.order_by is not None

    @cached_property
    def _reads_records(self) -> bool:
        return reads_records(self.model, self.bound, self.connection.dialect)

    @cached_property
    def usual(self) -> int:
        """How many records it has when nothing is in the way."""
        limit = self._schedule.limit
        left = None if limit is None else max(limit - self.tick.enqueued, 0)
        if self._is_sorted and left is not None:
            return left
        size = self._schedule.batch
        if self._reads_records:
            size = min(size, AT_ONCE)
        return size if left is None else min(size, left)

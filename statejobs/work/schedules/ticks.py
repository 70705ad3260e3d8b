"""The ticks of a schedule: which instants have one, and what each begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from statejobs.declare.schedule import Schedule
from statejobs.events import ScheduleCaughtUp, ScheduleSkipped, ScheduleTicked
from statejobs.record.enqueue_ticks import enqueue_tick
from statejobs.store.schedules import ScheduleRow, add_tick, skip_tick
from statejobs.store.store import Store
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.work.schedules.due import MovedOn

LAST_LIVES = "the job of an earlier tick lives"
"""Why a scheduled action skips a tick."""


@dataclass(slots=True)
class _Begun:
    """What one look has begun, told when it is committed."""

    now: datetime
    actor: str | None = None
    """Who asked for it."""
    ticked: list[datetime] = field(default_factory=list)
    """Ticks of which each has made a job."""
    skipped: list[datetime] = field(default_factory=list)
    """Ticks that have made none, since the last job lives."""


class Ticks:
    """Ticks of one schedule."""

    def __init__(
        self,
        schedule: Schedule,
        store: Store,
        *,
        sources: Sources,
        telemetry: Telemetry,
    ) -> None:
        self.key = schedule.key
        self.spec = schedule.spec
        self._schedule = schedule
        self._timetable = schedule.timetable
        self._store = store
        self._ids = sources.ids
        self._telemetry = telemetry

    def first_at(self, now: datetime) -> datetime | None:
        """Return when it ticks first."""
        return self._timetable.cron.after(now)

    def take(self, connection: Connection, row: ScheduleRow, now: datetime) -> MovedOn:
        """Write the ticks that are due, and begin what they are for."""
        assert row.next_at is not None  # noqa: S101 - it is due
        due = self._timetable.due(row.next_at, now)
        begun = _Begun(now)
        if due.left:
            self._leave(connection, due.left, now)
        for at in (*due.caught_up, *due.on_time):
            self._begin(connection, at, begun)
        known = (*due.left, *due.caught_up, *due.on_time)
        return MovedOn(
            last_at=known[-1],
            next_at=self._timetable.cron.after(now),
            then=partial(self._tell, begun, due.left, due.caught_up),
        )

    def take_now(
        self, connection: Connection, now: datetime, *, actor: str | None
    ) -> Callable[[], object]:
        """Begin a tick of that instant, whenever others are; return what tells of it.

        Its job is that of *actor*, where it makes one.
        """
        begun = _Begun(now, actor=actor)
        self._begin(connection, now, begun)
        return partial(self._tell, begun, (), ())

    def _leave(
        self, connection: Connection, left: Sequence[datetime], now: datetime
    ) -> None:
        """Write one row for all ticks that were missed for good: at the last of them."""
        row = self._row(left[-1], now, skipped=len(left))
        add_tick(connection, row | {"why": _missed(left, now), "done_at": now})

    def _begin(self, connection: Connection, at: datetime, begun: _Begun) -> None:
        """Begin the tick at that instant, unless it has been before."""
        now = begun.now
        task = self._schedule.task
        if task is None:  # its pages are written by and by
            add_tick(connection, self._row(at, now))
            return
        row = self._row(at, now, enqueued=1) | {"done_at": now}
        if not add_tick(connection, row):
            return
        overlap = self._timetable.overlap
        if enqueue_tick(
            connection,
            task.spec,
            at,
            now,
            overlap=overlap,
            job_id=self._ids(),
            actor=begun.actor,
        ):
            begun.ticked.append(at)
        else:
            skip_tick(connection, self.key, at, LAST_LIVES)
            begun.skipped.append(at)

    def _row(
        self, at: datetime, now: datetime, *, enqueued: int = 0, skipped: int = 0
    ) -> dict[str, object]:
        counts = {"enqueued": enqueued, "skipped": skipped}
        return {"key": self.key, "at": at, "began_at": now, **counts}

    def _tell(
        self,
        begun: _Begun,
        left: Sequence[datetime],
        caught_up: Sequence[datetime],
    ) -> None:
        """Wake who runs jobs, and tell who listens."""
        if begun.ticked:
            self._store.wake()
        if left:
            missed = _missed(left, begun.now)
            self._telemetry.emit(
                ScheduleSkipped,
                key=self.key,
                at=left[-1],
                count=len(left),
                reason=missed,
            )
        if caught_up:
            self._telemetry.emit(
                ScheduleCaughtUp, key=self.key, at=caught_up[-1], count=len(caught_up)
            )
        for at in begun.ticked:
            lag = (begun.now - at).total_seconds()
            self._telemetry.emit(
                ScheduleTicked, key=self.key, at=at, enqueued=1, skipped=0, lag=lag
            )
        for at in begun.skipped:
            self._telemetry.emit(
                ScheduleSkipped, key=self.key, at=at, count=1, reason=LAST_LIVES
            )


def _missed(left: Sequence[datetime], now: datetime) -> str:
    late = timedelta(seconds=int((now - left[-1]).total_seconds()))
    return f"missed: nobody took it in time, it was seen {late} late"

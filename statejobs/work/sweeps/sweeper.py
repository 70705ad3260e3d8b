"""Sweeps time and again: one more of what the ticker takes, one node at a time for each timeout."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from statejobs.acting import acting_for_job
from statejobs.events import StatesTimedOut
from statejobs.record.timeouts import StateTimeout
from statejobs.runner.agenda import Agenda
from statejobs.runner.services import SOON, Service
from statejobs.store.schedules import ScheduleRow, find_schedules, keep_cursor
from statejobs.store.store import Store
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.work.schedules.due import MovedOn
from statejobs.work.schedules.ticker import Ticker
from statejobs.work.sweeps.sweep import MOST, Sweeping, Swept

ACTOR = "statejobs"
"""Who acts, as history has it."""


class Sweeper:
    """Sweeps each timeout of an app."""

    def __init__(
        self,
        timeouts: tuple[StateTimeout, ...],
        store: Store,
        *,
        every: timedelta,
        sources: Sources,
        telemetry: Telemetry,
        open_session: Callable[[], Session],
    ) -> None:
        self._timeouts = timeouts
        self._store = store
        self._sources = sources
        self._every = every
        self._telemetry = telemetry
        self._sweeping = Sweeping(
            store=store, clock=sources.clock, open_session=open_session
        )

    def services(self) -> list[Service]:
        """Return it as a service of one worker; of none where nothing times out.

        It is one beside that of ticks, so that no tick waits for a sweep.
        """
        if not self._timeouts:
            return []
        dues = [DueSweep(one, self, every=self._every) for one in self._timeouts]
        ticker = Ticker(dues, self._store, self._sources)
        for due in dues:
            due.agenda = ticker.agenda
        return [Service("sweep", ticker.run_once, self._every)]

    def sweep_all(self) -> int:
        """Sweep all that is due here and now, whoever is to, but what somebody has paused.

        Returns:
            How many records moved.
        """
        if not self._timeouts:
            return 0
        with self._store.unwaiting() as connection:
            rows = find_schedules(connection, [one.key for one in self._timeouts])
        paused = {row.key for row in rows if row.paused_at is not None}
        return sum(
            self._sweep_whole(timeout)
            for timeout in self._timeouts
            if timeout.key not in paused
        )

    def sweep(
        self, timeout: StateTimeout, cursor: str | None = None, *, most: int = MOST
    ) -> Swept:
        """Sweep once from *cursor* on, by *most* records, and tell how many moved."""
        with acting_for_job(ACTOR, None):
            swept = self._sweeping.sweep(timeout, cursor, most=most)
        if swept.moved:
            self._tell(timeout, swept)
        return swept

    def go_on(self, timeout: StateTimeout, cursor: str | None) -> datetime | None:
        """Sweep from *cursor* on, and keep how far that came; return when more of it is due."""
        swept = self.sweep(timeout, cursor)
        next_at = self._sources.clock.now() + SOON if swept.is_more else None
        if swept.cursor != cursor or next_at is not None:
            with self._store.unwaiting() as connection:
                keep_cursor(connection, timeout.key, swept.cursor, next_at=next_at)
        return next_at

    def _sweep_whole(self, timeout: StateTimeout) -> int:
        swept = self.sweep(timeout)
        moved = swept.moved
        while swept.cursor is not None:
            swept = self.sweep(timeout, swept.cursor)
            moved += swept.moved
        return moved

    def _tell(self, timeout: StateTimeout, swept: Swept) -> None:
        assert swept.oldest is not None  # noqa: S101 - one moved
        was_due = swept.oldest + timeout.after
        self._telemetry.emit(
            StatesTimedOut,
            resource=timeout.model.name,
            transition=timeout.declared.name,
            moved=swept.moved,
            kept=swept.seen - swept.moved,
            lag=(self._sources.clock.now() - was_due).total_seconds(),
        )


class DueSweep:
    """A timeout, as the ticker takes it: the sweep follows the commit that took it."""

    agenda: Agenda
    """Of the ticker that has it."""

    def __init__(
        self, timeout: StateTimeout, sweeper: Sweeper, *, every: timedelta
    ) -> None:
        self._timeout = timeout
        self._sweeper = sweeper
        self._every = every

    @property
    def key(self) -> str:
        """The key of its row."""
        return self._timeout.key

    @property
    def spec(self) -> str:
        """What tells it from that of other code."""
        return self._timeout.spec

    def first_at(self, now: datetime) -> datetime:
        """Return that it is due at once."""
        return now

    def take(self, connection: Connection, row: ScheduleRow, now: datetime) -> MovedOn:
        """Let it be due again after a while, for whoever comes first then."""
        del connection
        return MovedOn(
            last_at=now,
            next_at=now + self._every,
            then=partial(self._sweep, row.cursor),
        )

    def _sweep(self, cursor: str | None) -> None:
        self.agenda.note(self._sweeper.go_on(self._timeout, cursor))

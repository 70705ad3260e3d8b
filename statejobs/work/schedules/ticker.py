"""Takes what is due by the clock. Every worker does, and none of them leads.

The row of a schedule is locked by who takes it, and moved on in the same transaction; others pass
it over. The primary key of a tick is the proof: an instant that has a row has been taken.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from statejobs.runner.agenda import Agenda
from statejobs.runner.services import Service
from statejobs.runner.timekeeping import timekeeper_of
from statejobs.store.schedules import (
    ScheduleRow,
    add_schedules,
    find_schedules,
    lock_due,
    lock_other_specs,
    move_on,
    write_spec,
)
from statejobs.store.store import TABLE_PATIENCE, Store
from statejobs.values.clock import Sources
from statejobs.work.schedules.due import Due, Pages

log = logging.getLogger("statejobs.schedules")

_AT_ONCE = timedelta()
_SOON = timedelta(seconds=1)
"""After so long it is looked again for what somebody else had, or what raised."""
_LONGEST = timedelta(seconds=10)
"""So seldom a worker looks that is too busy to look for jobs, and so is told of nothing."""


class Ticker:
    """Takes the due rows of one app; any number of workers may, at once."""

    def __init__(
        self,
        dues: Sequence[Due],
        store: Store,
        sources: Sources,
        *,
        pages: Pages | None = None,
        paged: Sequence[str] = (),
    ) -> None:
        """Make one.

        Args:
            dues: What it takes.
            store: The tables.
            sources: The clock.
            pages: Goes on with unfinished ticks.
            paged: The keys whose ticks may be unfinished.
        """
        self._dues = {due.key: due for due in dues}
        self._specs = {due.key: due.spec for due in dues}
        self._store = store
        self._sources = sources
        self.agenda = Agenda(sources.clock)
        """Where the look of a worker notes when something is due."""
        self._pages = pages
        self._timekeeper = timekeeper_of(sources.clock)
        self._is_registered = False
        self._others: set[str] = set()
        self.agenda.follow(specs=self._specs.values(), keys=paged)

    def service(self) -> Service:
        """Return it as a service."""
        return Service("ticks", self.run_once, _SOON, news=self.agenda.news)

    def run_once(self, *, raise_errors: bool = False) -> timedelta:
        """Take what is due; return in what time to look again though nobody says anything.

        Raises:
            Exception: What kept one from being taken; with *raise_errors* also from its records.
        """
        self._timekeeper.settle_doubt()
        self.agenda.begin_round()
        if not self._is_registered:
            self._register()
        self._take_all()
        pages = self._pages
        if pages is not None and pages.run_once(raise_errors=raise_errors):
            return _AT_ONCE
        return self.agenda.time_left(_LONGEST)

    def catch_up(self, *, raise_errors: bool = False) -> None:
        """Take all that is due now, as who has no worker wants it; raises as `run_once`."""
        while self.run_once(raise_errors=raise_errors) <= _AT_ONCE:
            pass

    def _register(self) -> None:
        """Write the rows of this code, and its specs into those of other code."""
        now = self._sources.clock.now()
        rows = [
            {"key": key, "spec": due.spec, "next_at": due.first_at(now)}
            for key, due in sorted(self._dues.items())
        ]
        with self._store.transaction(lock_timeout=TABLE_PATIENCE) as connection:
            add_schedules(connection, rows)
            others = lock_other_specs(
                connection, [*self._dues], [*self._specs.values()]
            )
            for row in others:
                # never back: an instant that was taken has had its tick
                since = now if row.last_at is None else max(now, row.last_at)
                due = self._dues[row.key]
                write_spec(connection, row.key, due.spec, due.first_at(since))
        self._is_registered = True

    def _take_all(self) -> None:
        """Take each that is due in a transaction of its own, so that none fails for another.

        Raises:
            Exception: As the first that failed; the others were taken.
        """
        now = self._sources.clock.now()
        errors: list[Exception] = []
        for row in self._ours():
            next_at = row.next_at
            if next_at is not None and next_at <= now:
                try:
                    next_at = self._take(row.key)
                except Exception as error:  # noqa: BLE001 - the others are due as well
                    errors.append(error)
                    next_at = now + _SOON
            self.agenda.note(next_at)
        if errors:
            raise errors[0]

    def _ours(self) -> list[ScheduleRow]:
        """Return the rows that are ours to take, those first that are due first."""
        with self._store.unwaiting() as connection:
            rows = find_schedules(connection, [*self._dues])
        ours = [row for row in rows if not self._is_of_others(row)]
        waiting = [row for row in ours if row.paused_at is None and row.next_at]
        return sorted(waiting, key=lambda row: (row.next_at, row.key))

    def _is_of_others(self, row: ScheduleRow) -> bool:
        """Return whether other code takes care of a schedule, and say so once."""
        if row.spec == self._specs[row.key]:
            return False
        if row.key not in self._others:
            self._others.add(row.key)
            log.warning(
                "schedule %s is left to other code, which has another timetable for it "
                "and was started later",
                row.key,
            )
        return True

    def _take(self, key: str) -> datetime | None:
        """Take what is due of *key*; return when it is due again, or when to look."""
        due = self._dues[key]
        with self._store.transaction(lock_timeout=TABLE_PATIENCE) as connection:
            now = self._sources.clock.now()
            row = lock_due(connection, key, due.spec, now)
            if row is None:  # somebody has it, or had it
                return now + _SOON
            taken = due.take(connection, row, now)
            move_on(connection, key, last_at=taken.last_at, next_at=taken.next_at)
        if taken.then is not None:
            taken.then()
        return taken.next_at

"""Works off the ticks of triggers: jobs for the records that each picks, a page at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property

from sqlalchemy import Connection

from statejobs.declare.registry import Registry
from statejobs.events import ScheduleTicked
from statejobs.runner.blame import is_everyones
from statejobs.runner.held_keys import HeldKeys
from statejobs.store.faults import Fault, fault_of, words_of
from statejobs.store.pages import Picking
from statejobs.store.store import Store
from statejobs.store.unfinished_ticks import (
    UnfinishedTick,
    find_unfinished,
    lock_unfinished,
    note_reason,
)
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.values.text import REASON_LIMIT, shown_text
from statejobs.work.schedules.picking import picking_of
from statejobs.work.schedules.tick_page import LESS, TickPage, Total

log = logging.getLogger("statejobs.schedules")

_PASSING = {Fault.CONFLICT, Fault.LOCKED, Fault.INTERRUPTED}
"""What is over by itself."""


class _PageFailedError(Exception):
    """A page could not be written; unwinds through its transaction."""

    def __init__(
        self, tick: UnfinishedTick, page: TickPage | None, error: Exception
    ) -> None:
        super().__init__(tick, page, error)
        self.tick = tick
        self.page = page
        self.error = error


class Pager:
    """Writes the pages of ticks that are not done; any other node may do so beside it."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        *,
        sources: Sources,
        telemetry: Telemetry,
    ) -> None:
        self._registry = registry
        self._store = store
        self._sources = sources
        self._telemetry = telemetry
        self._held = HeldKeys(sources.clock)
        self._last = ""
        """The key whose page was the last: others come first now."""
        self._most: dict[str, int] = {}
        """Keys whose last page has met a lock → how many records the next may have."""
        self._pickings: dict[str, Picking] = {}

    @cached_property
    def keys(self) -> Sequence[str]:
        """Keys and aliases of the triggers whose ticks it goes on with."""
        triggers = self._registry.triggers
        return [key for key, (_, bound) in triggers.items() if bound.schedule]

    def run_once(self, *, raise_errors: bool = False) -> bool:
        """Write a page of a tick that is not done; return whether there may be another.

        Raises:
            Exception: The database is away or read-only; with *raise_errors* also what a page
                met that was put off for it.
        """
        keys = self._held.free(self.keys)
        if not keys:
            return False
        with self._store.unwaiting() as connection:
            unfinished = find_unfinished(connection, keys)
        if not unfinished:
            return False
        try:
            return self._write_page(unfinished)
        except _PageFailedError as failed:
            is_failure = self._put_off(failed.tick, failed.page, failed.error)
            if raise_errors and is_failure:
                raise failed.error from None
            return True

    def _write_page(self, keys: Sequence[str]) -> bool:
        with self._store.transaction(yields=True) as connection:
            tick = lock_unfinished(connection, keys, but=self._last)
            if tick is None:
                return False
            self._last = tick.key
            page = None
            try:
                page = self._next_page(connection, tick)
                total = page.write()
            except Exception as error:
                if is_everyones(error):
                    raise
                raise _PageFailedError(tick, page, error) from error
        self._store.wake()
        self._note_success(page)
        if total is not None:
            self._tell(tick, total)
        return True

    def _next_page(self, connection: Connection, tick: UnfinishedTick) -> TickPage:
        model, bound = self._registry.triggers[tick.key]
        if tick.key not in self._pickings:
            picking = picking_of(model, bound, connection.dialect)
            self._pickings[tick.key] = picking
        return TickPage(
            connection=connection,
            model=model,
            bound=bound,
            picking=self._pickings[tick.key],
            tick=tick,
            now=self._sources.clock.now(),
            ids=self._sources.ids,
            redaction=self._store.redaction,
            most=self._most.get(tick.key),
        )

    def _tell(self, tick: UnfinishedTick, total: Total) -> None:
        if total.skipped:
            log.warning(
                "a tick of %s made no job of %d records: %s",
                tick.key,
                total.skipped,
                total.reason,
            )
        self._telemetry.emit(
            ScheduleTicked,
            key=tick.key,
            at=tick.at,
            enqueued=total.enqueued,
            skipped=total.skipped,
            lag=(tick.began_at - tick.at).total_seconds(),
        )

    def _note_success(self, page: TickPage) -> None:
        key = page.tick.key
        if self._held.release(key):
            log.info("the ticks of %s go on", key)
        if key in self._most:
            more = page.size * LESS
            self._most[key] = more
            if more > page.usual:
                del self._most[key]

    def _put_off(
        self, tick: UnfinishedTick, page: TickPage | None, error: Exception
    ) -> bool:
        """Try a smaller page of *tick* next, or leave it to others for a while.

        Returns:
            Whether it is told as a failure, which does not pass by itself.
        """
        fault = fault_of(error)
        is_row = fault is Fault.LOCKED and self._store.dialect == "postgresql"
        if is_row and page is not None and page.smaller is not None:
            log.debug("a page of %s has met a lock: %s", tick.key, error)
            self._most[tick.key] = page.smaller
            return False
        said = f"{type(error).__name__}: {words_of(error)}"
        reason = shown_text(said, REASON_LIMIT, self._store.redaction)
        hold = self._held.hold(tick.key, reason, error)
        seconds = hold.wait.total_seconds()
        told = (tick.key, seconds, reason)
        if fault in _PASSING:
            log.debug("a page of %s is tried again in %g s: %s", *told)
            return False
        log.error(
            "a page of %s failed, and is tried again in %g s: %s", *told, exc_info=error
        )
        with self._store.transaction() as connection:
            note_reason(connection, tick, reason)
        return True

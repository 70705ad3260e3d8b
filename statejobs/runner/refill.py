"""Fills free slots: looks which queues have work, and claims what the lanes have room for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from statejobs.runner.agenda import Agenda
from statejobs.runner.blockers import who_has_locked
from statejobs.runner.claiming import Wanted
from statejobs.runner.crew import Crew
from statejobs.runner.keeper import HeldClaims, Keeper
from statejobs.runner.lane import Lane
from statejobs.runner.news import News
from statejobs.runner.runner import Runner
from statejobs.runner.services import Service
from statejobs.runner.staging import Staging
from statejobs.runner.trouble import Trouble
from statejobs.values.suspects import Suspects

_FEW_QUEUES = 4
"""So many queues are tried at once on a hint; the others are looked at first."""
_HEAD_START = 0.002  # seconds


class Refill:
    """Claims for the crew of one worker; one call of `run_once` is one round."""

    def __init__(
        self,
        runner: Runner,
        crew: Crew,
        held: HeldClaims,
        *,
        keeper: Keeper,
        news: News,
        agenda: Agenda | None = None,
    ) -> None:
        self._runner = runner
        self._crew = crew
        self._held = held
        self._keeper = keeper
        self._news = news
        self._agenda = agenda
        self._sources = runner.sources
        self._settings = runner.settings
        self._queues = [lane.queue for lane in crew.lanes]
        self._staging = Staging(runner.store)
        self._nobody = threading.Event()
        """Comes never: a rest."""
        self._trouble = Trouble(
            runner.sources,
            runner.telemetry,
            who_has_locked=partial(who_has_locked, runner.store),
        )

    def service(self) -> Service:
        """Return it as a service."""
        return Service(
            "claim",
            self.run_once,
            self._settings.poll,
            news=self._news.arrived,
            on_error=self._trouble.met,
        )

    def run_once(self) -> timedelta:
        """Claim what there is room for, and start it; return in what time to look again."""
        self._news.take()
        is_more = self._claim()
        if self._keeper.can_claim:  # otherwise nothing was asked
            self._trouble.is_over()
        if is_more:
            self._news.note_room()
        return self._news.time_to_look()

    def _claim(self) -> bool:
        """Claim what there is room for; return whether more may be waiting."""
        self._crew.give_back_overdue()
        if not self._keeper.can_claim:
            return False
        self._runner.timekeeper.settle_doubt()
        if self._news.is_hinted:
            self._claim_at_once()
        has_something = any(lane.has_more for lane in self._crew.lanes)
        if self._news.must_look or self._trouble.is_met or not has_something:
            self._look()
        return self._fill_all([lane for lane in self._crew.lanes if lane.has_more])

    def _claim_at_once(self) -> None:
        """Claim on a hint: a look first would only delay what is most likely there."""
        self._news.is_hinted = False
        self._fill_all(self._crew.lanes[:_FEW_QUEUES])
        if not self._held.is_empty:
            # A look at once would take the interpreter from what has just started.
            self._sources.wait(self._nobody, _HEAD_START)

    def _fill_all(self, lanes: Sequence[Lane]) -> bool:
        """Claim what *lanes* have room for; return whether more may be waiting."""
        more = [
            self._trouble.guard(lane.queue, partial(self._fill, lane)) for lane in lanes
        ]
        return any(more)

    def _fill(self, lane: Lane) -> bool:
        """Claim what *lane* has room for; return whether more may be waiting."""
        limit = min(
            lane.room(self._sources.clock.monotonic()), self._settings.claim_batch
        )
        if limit <= 0:
            return False
        suspects = self._held.suspects
        wanted = Wanted(
            queue=lane.queue, limit=limit, suspects=suspects, fills_chunks=True
        )
        taken = self._runner.claiming.take(wanted)
        is_more = len(taken.claims) >= limit or taken.is_more
        # Others may have been left out, which can be claimed once these have ended.
        leaves_out = suspects is not Suspects.ANY or any(
            claim.job.crashes for claim in taken.claims
        )
        lane.has_more = is_more or leaves_out
        self._crew.put(lane, taken.claims)
        return is_more

    def _look(self) -> None:
        """Stage what is due, and note which queues have work, with room for it or not."""
        self._news.begin_look()
        claiming = self._runner.claiming
        timekeeper = self._runner.timekeeper
        keys = claiming.claimable_keys()
        sent = self._sources.clock.monotonic()
        peek = claiming.look(self._queues, self._agenda)
        timekeeper.take(peek.told, sent=sent)
        if self._agenda is not None:
            self._agenda.expect(peek.next_tick)
        now = self._sources.clock.now()
        ready = set(peek.ready)
        if peek.next_due is not None and peek.next_due <= now:
            ready |= self._staging.run_once(self._queues, keys, now)
        elif peek.next_due is not None:
            self._news.expect(peek.next_due)
        for lane in self._crew.lanes:
            lane.has_more = lane.queue in ready

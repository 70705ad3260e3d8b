"""Keeps what this node holds: renews leases, and warns jobs before a lease can end unrenewed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from statejobs.config import WorkerSettings
from statejobs.events import LeasesLost
from statejobs.runner.blockers import who_has_locked
from statejobs.runner.port import Claim, Phase
from statejobs.runner.timekeeping import timekeeper_of
from statejobs.store.faults import Fault, fault_of, words_of
from statejobs.store.hold import renew_leases
from statejobs.store.nodes import beat_node
from statejobs.store.store import Store
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.values.suspects import Suspects, runs_alone

log = logging.getLogger("statejobs.runner")

_MARGIN = 0.15
"""Part of the lease that is left when unrenewed jobs are asked to stop."""
_MISSED = 1.5
"""Heartbeats without an answer after which others may have been cut off as well."""


class HeldClaims:
    """The claims that run on this node, by queue; safe between threads."""

    def __init__(self) -> None:
        self._claims: dict[Claim, None] = {}
        self._lock = threading.Lock()
        self.emptied = threading.Condition(self._lock)

    def add(self, claims: Iterable[Claim]) -> None:
        """Count *claims* as running."""
        with self._lock:
            for claim in claims:
                claim.is_kept = True
                self._claims[claim] = None

    def remove(self, claims: Iterable[Claim]) -> list[Claim]:
        """Count *claims* no more; return those that were counted."""
        with self._lock:
            gone = [claim for claim in claims if claim in self._claims]
            for claim in gone:
                claim.is_kept = False
                del self._claims[claim]
            if not self._claims:
                self.emptied.notify_all()
        return gone

    def all(self) -> list[Claim]:
        """Return the running claims, oldest first."""
        with self._lock:
            return list(self._claims)

    @property
    def suspects(self) -> Suspects:
        """Which jobs whose worker died under them may be claimed beside those that are here."""
        with self._lock:
            here = [claim for claim in self._claims if claim.job.crashes]
        if any(map(_runs_alone, here)):
            return Suspects.NONE
        return Suspects.SHARING if here else Suspects.ANY

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs."""
        return not self._claims


class Keeper:
    """Renews the leases of `held`; one call of `run_once` is one heartbeat.

    It runs in a thread of its own, so that a blocked event loop does not look dead. The lease is
    measured on the monotonic clock from before the last renewal that succeeded.
    """

    def __init__(
        self,
        store: Store,
        held: HeldClaims,
        *,
        node_id: str,
        settings: WorkerSettings,
        sources: Sources,
        telemetry: Telemetry,
        held_keys: Callable[[], str | None] = lambda: None,
        on_forgotten: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._held = held
        self._node_id = node_id
        self._settings = settings
        self._sources = sources
        self._telemetry = telemetry
        self._timekeeper = timekeeper_of(sources.clock)
        self._held_keys = held_keys
        self._on_forgotten = on_forgotten
        self._renewed_at = self._watched_at = sources.clock.monotonic()
        self._rests_until = float("-inf")
        self.news = threading.Event()
        """Set while somebody may have asked a job of this node to stop."""

    def look_now(self) -> None:
        """Let the next heartbeat be at once: somebody may have asked a job to stop."""
        self.news.set()

    @property
    def watches_every(self) -> timedelta:
        """How often `watch` is to be called."""
        return self._settings.lease / 20

    @property
    def can_claim(self) -> bool:
        """Whether the last heartbeat is fresh enough to take on more."""
        age = self._sources.clock.monotonic() - self._renewed_at
        return age < self._settings.lease.total_seconds() / 2

    @property
    def may_rescue(self) -> bool:
        """Whether a lease that ran out tells that its worker is gone.

        After an outage every lease has run out, and those who live need a moment to renew theirs.
        """
        return (
            self._sources.clock.monotonic() >= self._rests_until
            and not self._was_cut_off()
        )

    def rest(self) -> None:
        """Rescue nothing for one lease."""
        lease = self._settings.lease.total_seconds()
        self._rests_until = self._sources.clock.monotonic() + lease

    def run_once(self) -> bool:
        """Renew every lease; drop what was lost, warn what cannot be renewed in time.

        Returns:
            Whether every lease was renewed; else it is to be tried again soon.
        """
        self.news.clear()
        began = self._sources.clock.monotonic()
        claims = self._held.all()
        locked: list[SQLAlchemyError] = []
        try:
            self._timekeeper.settle_doubt()
            has_all = self._unless_locked(lambda: self._renew(claims), locked)
            has_all &= self._unless_locked(self._beat, locked)
            if self._was_cut_off():
                self.rest()
            self._renewed_at = began
        except SQLAlchemyError as error:
            log.debug("no heartbeat: %s", error)
            self._warn_unrenewed()
            return False
        if locked:
            self._rest_behind(locked[0])
        return has_all

    def watch(self) -> None:
        """Warn what could not be renewed in time; for when `run_once` itself gets no answer.

        When the whole process stood still, as under a call of C that lets no other thread run,
        the heartbeat that is due has the first word: it may still be in time.
        """
        now = self._sources.clock.monotonic()
        stood_still = now - self._watched_at > 2 * self.watches_every.total_seconds()
        self._watched_at = now
        if not stood_still:
            self._warn_unrenewed()

    def _unless_locked(
        self, act: Callable[[], bool], locked: list[SQLAlchemyError]
    ) -> bool:
        """Return what *act* returns; False, and *locked* grows, when a table it needs is locked."""
        try:
            return act()
        except SQLAlchemyError as error:
            if fault_of(error) is not Fault.LOCKED or self._store.dialect == "sqlite":
                raise
            locked.append(error)
            return False

    def _rest_behind(self, error: SQLAlchemyError) -> None:
        """Rescue nothing for one lease, and say who has locked a table.

        While it is locked nobody can renew a lease, nor take a job whose lease ran out: nothing
        was missed, and those who live are to renew theirs before anybody is rescued.
        """
        self.rest()
        blocker = who_has_locked(self._store, of_leases=True)
        log.warning("no lease can be renewed for now: %s: %s", blocker, words_of(error))

    def _beat(self) -> bool:
        clock = self._sources.clock
        offset = self._timekeeper.offset
        sent = clock.monotonic()
        held = self._held_keys()
        beat = beat_node(
            self._store, self._node_id, clock.now(), offset=offset, held=held
        )
        self._timekeeper.take(beat.told, sent=sent)
        if not beat.is_known:  # somebody has deleted the row
            self._on_forgotten()
        return True

    def _was_cut_off(self) -> bool:
        age = timedelta(seconds=self._sources.clock.monotonic() - self._renewed_at)
        return age > max(self._settings.lease / 2, self._settings.heartbeat * _MISSED)

    def _warn_unrenewed(self) -> None:
        """Ask jobs to stop whose lease is about to end; what they finish may still be recorded."""
        age = timedelta(seconds=self._sources.clock.monotonic() - self._renewed_at)
        if age <= self._settings.lease * (1 - _MARGIN):
            return
        claims = [c for c in self._held.all() if not (c.is_lost or c.is_dropped)]
        for claim in claims:
            claim.is_dropped = True
        self._tell(
            claims,
            "could not be renewed: they end well only if nobody takes them first",
        )

    def _renew(self, claims: list[Claim]) -> bool:
        if not claims:
            return True
        until = self._sources.clock.now() + self._settings.lease
        ids = [claim.job.id for claim in claims]
        renewed = {
            (held.job_id, held.token): held
            for held in renew_leases(self._store, ids, node=self._node_id, until=until)
        }
        for claim in claims:
            held = renewed.get((claim.job.id, claim.job.token or ""))
            if held is None:
                self._drop_if_running(claim)
            elif held.cancel_requested:
                reason = held.reason or "a cancel was asked for"
                claim.ask_to_stop(reason, self._sources.clock.monotonic())
        return all(held.is_renewed for held in renewed.values())

    def _drop_if_running(self, claim: Claim) -> None:
        """A job that is not ours in the database was finished a moment ago, or was lost."""
        if claim in self._held.all() and claim.phase is Phase.HELD:
            claim.is_lost = True
            self._tell([claim], "are lost: their results will be dropped")

    def _tell(self, claims: list[Claim], what: str) -> None:
        for claim in claims:
            claim.signal.set("its lease is lost")
        if claims:
            ids = [claim.job.id for claim in claims]
            log.warning("leases of jobs %s %s", ids, what)
            self._telemetry.emit(LeasesLost, job_ids=ids)


def _runs_alone(claim: Claim) -> bool:
    job = claim.job
    return runs_alone(
        job, next_attempt=job.attempt, max_crashes=claim.policy.max_crashes
    )

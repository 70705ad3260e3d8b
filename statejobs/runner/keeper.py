"""Keeps what this node holds: renews leases, and drops jobs before a lease can end unrenewed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from statejobs.config import WorkerSettings
from statejobs.domain.clock import Sources
from statejobs.domain.suspects import Suspects, runs_alone
from statejobs.runner.port import Claim
from statejobs.runner.timekeeping import timekeeper_of
from statejobs.store.store import Store
from statejobs.telemetry import Event, Telemetry

log = logging.getLogger("statejobs.runner")

_MARGIN = 0.15
"""Part of the lease that is left when unrenewed jobs are dropped."""


class HeldClaims:
    """The claims that run on this node, by queue; safe between threads."""

    def __init__(self) -> None:
        self._claims: dict[Claim, None] = {}
        self._lock = threading.Lock()
        self.emptied = threading.Condition(self._lock)

    def add(self, claims: Iterable[Claim]) -> None:
        """Count *claims* as running."""
        with self._lock:
            self._claims.update(dict.fromkeys(claims))

    def remove(self, claims: Iterable[Claim]) -> list[Claim]:
        """Count *claims* no more; return those that were counted."""
        with self._lock:
            gone = [claim for claim in claims if claim in self._claims]
            for claim in gone:
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
            here = [claim for claim in self._claims if claim.job.is_suspect]
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
        self, store: Store, held: HeldClaims, *, node_id: str, settings: WorkerSettings,
        sources: Sources, telemetry: Telemetry,
        held_keys: Callable[[], str | None] = lambda: None,
    ) -> None:  # fmt: skip
        self._store, self._held, self._node_id = store, held, node_id
        self._settings, self._sources, self._telemetry = settings, sources, telemetry
        self._timekeeper = timekeeper_of(sources.clock)
        self._held_keys = held_keys
        self._renewed_at = self._watched_at = sources.clock.monotonic()

    @property
    def watches_every(self) -> timedelta:
        """How often `watch` is to be called."""
        return self._settings.lease / 20

    @property
    def can_claim(self) -> bool:
        """Whether the last heartbeat is fresh enough to take on more."""
        age = self._sources.clock.monotonic() - self._renewed_at
        return age < self._settings.lease.total_seconds() / 2

    def run_once(self) -> bool:
        """Renew every lease; drop what was lost, or cannot be renewed in time.

        Returns:
            Whether every lease was renewed; else it is to be tried again soon.
        """
        began = self._sources.clock.monotonic()
        claims = self._held.all()
        try:
            self._timekeeper.settle_doubt()
            has_all = self._renew(claims)
            self._beat()
            self._renewed_at = began
        except SQLAlchemyError as error:
            log.debug("no heartbeat: %s", error)
            self._drop_unrenewed()
            return False
        return has_all

    def watch(self) -> None:
        """Drop what could not be renewed in time; for when `run_once` itself gets no answer.

        When the whole process stood still, as under a call of C that lets no other thread run,
        the heartbeat that is due has the first word: it may still be in time.
        """
        now = self._sources.clock.monotonic()
        stood_still = now - self._watched_at > 2 * self.watches_every.total_seconds()
        self._watched_at = now
        if not stood_still:
            self._drop_unrenewed()

    def _beat(self) -> None:
        clock, offset = self._sources.clock, self._timekeeper.offset
        sent = clock.monotonic()
        held = self._held_keys()
        beat = self._store.beat(self._node_id, clock.now(), offset=offset, held=held)
        self._timekeeper.take(beat.told, sent=sent)

    def _drop_unrenewed(self) -> None:
        age = timedelta(seconds=self._sources.clock.monotonic() - self._renewed_at)
        if age > self._settings.lease * (1 - _MARGIN):
            self._drop([claim for claim in self._held.all() if not claim.is_lost])

    def _renew(self, claims: list[Claim]) -> bool:
        if not claims:
            return True
        until = self._sources.clock.now() + self._settings.lease
        ids = [claim.job.id for claim in claims]
        renewed = {
            (held.job_id, held.token): held
            for held in self._store.renew(ids, by=self._node_id, until=until)
        }
        for claim in claims:
            held = renewed.get((claim.job.id, claim.job.token or ""))
            if held is None:
                self._drop_if_running(claim)
            elif held.cancel_requested:
                claim.signal.set(held.reason or "a cancel was asked for")
        return all(held.is_renewed for held in renewed.values())

    def _drop_if_running(self, claim: Claim) -> None:
        """A job that is not ours in the database was finished a moment ago, or was lost."""
        if claim in self._held.all() and not (claim.is_settled or claim.is_finishing):
            self._drop([claim])

    def _drop(self, claims: list[Claim]) -> None:
        for claim in claims:
            claim.is_lost = True
            claim.signal.set("its lease is lost")
        if claims:
            ids = [claim.job.id for claim in claims]
            log.warning("leases lost of jobs %s: their results will be dropped", ids)
            self._telemetry.emit(Event.LEASES_LOST, job_ids=ids)


def _runs_alone(claim: Claim) -> bool:
    job = claim.job
    return runs_alone(job, next_attempt=job.attempt, max_crashes=claim.policy.max_crashes)

"""Takes queued jobs for one node: locks them and their records, and marks both."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from msgspec import structs
from sqlalchemy import Connection

from statejobs.config import WorkerSettings
from statejobs.events import JobPostponed, JobsClaimed, JobStale
from statejobs.runner.agenda import Agenda
from statejobs.runner.answers import Starts, Subject
from statejobs.runner.blame import is_everyones
from statejobs.runner.crash_points import CrashPoint, Reach, live_on
from statejobs.runner.ended import Ended
from statejobs.runner.finisher import Finisher
from statejobs.runner.held_keys import HeldKeys
from statejobs.runner.port import Claim, Works
from statejobs.runner.sifting import Sifting
from statejobs.runner.strays import Strays
from statejobs.runner.unclaimed import Unclaimed
from statejobs.store import unclaimed as statements
from statejobs.store.claim import (
    cancel_stale,
    lock_listed,
    lock_queued,
    lock_trusted,
    mark_processing,
    postpone,
)
from statejobs.store.rows import Peek
from statejobs.store.store import TABLE_PATIENCE, Store
from statejobs.store.strangers import lock_among_strangers, peek_queues
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.values.job import Job, JobState
from statejobs.values.suspects import TOGETHER_AFTER, Suspects, fit_together
from statejobs.values.waiting import wait_again

log = logging.getLogger("statejobs.runner")

POSTPONED_FOR = timedelta(seconds=1)
"""How long a job waits whose record was locked; up to half as much is added by chance."""
_LAST = 100
"""So many of the last in a queue are those of which some are tried, when the first all raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a round of claiming is to take; see `Runner.claim`."""

    queue: str
    limit: int
    suspects: Suspects = Suspects.ANY
    fills_chunks: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What a round of claiming came to."""

    claims: Sequence[Claim] = ()
    """What starts."""
    ended: Sequence[Ended] = ()
    """Attempts that failed because they could not be begun."""
    is_more: bool = False
    """Whether there was something, though none of it starts; there may be more behind it."""


class Claiming:
    """Takes jobs that are queued, for `Runner.claim`; safe to call from several threads."""

    def __init__(
        self,
        store: Store,
        works: Works,
        finisher: Finisher,
        strays: Strays,
        *,
        node_id: str,
        settings: WorkerSettings,
        sources: Sources,
        telemetry: Telemetry,
        keys: Sequence[str] | None = None,
        reach: Reach = live_on,
    ) -> None:
        self._store = store
        self._works = works
        self._only = None if keys is None else frozenset(keys)
        self._node_id = node_id
        self._settings = settings
        self._sources = sources
        self._telemetry = telemetry
        self._strays = strays
        self._reach = reach
        self.held = HeldKeys(sources.clock)
        self._with_strangers: frozenset[str] = frozenset()
        """Queues in which the last look saw jobs that this node cannot claim."""
        self._unclaimed = Unclaimed(
            store,
            works,
            finisher,
            self.held,
            node_id=node_id,
            sources=sources,
            telemetry=telemetry,
        )

    def claimable_keys(self) -> Sequence[str]:
        """Return the keys of the jobs that this node can claim now."""
        return self.held.free(self._keys)

    @cached_property
    def _keys(self) -> Sequence[str]:
        """The keys of the jobs that this node would claim."""
        keys = self._works.unpaused_keys()
        return keys if self._only is None else [k for k in keys if k in self._only]

    def look(self, queues: Sequence[str], agenda: Agenda | None = None) -> Peek:
        """Look which of *queues* have work, and for whom; claims go by it until the next look.

        With an *agenda*, also when the next of its schedules is due.
        """
        keys = self.claimable_keys()
        if agenda is None:
            peek = peek_queues(self._store, queues, keys)
        else:
            peek = peek_queues(
                self._store, queues, keys, specs=agenda.specs, tick_keys=agenda.keys
            )
        self._with_strangers = peek.strangers
        return peek

    def take(self, wanted: Wanted) -> Taken:
        """Take what is *wanted*, with one transaction where none of the jobs raises.

        Raises:
            Exception: The database is away or read-only, or what raised concerns no job.
        """
        keys = self.claimable_keys()
        if not keys:
            return Taken()
        try:
            found, claims = self._start_locked(
                wanted.queue,
                lambda connection: self._lock_best(connection, wanted, keys),
            )
        except Exception as error:
            if is_everyones(error):
                raise
            log.debug("a claim of %s is tried in halves: %r", wanted.queue, error)
            return self._take_in_halves(wanted, keys)
        if self.held:
            self._unclaimed.note_success(claim.job.key for claim in claims)
        return Taken(claims, is_more=bool(found) and not claims)

    def _take_in_halves(self, wanted: Wanted, keys: Sequence[str]) -> Taken:
        """Take what raised as a whole in parts, and settle those that raise by themselves."""
        queue = wanted.queue
        with self._store.unwaiting() as connection:
            found = statements.find_queued(
                connection,
                queue,
                keys,
                limit=wanted.limit,
                suspects=wanted.suspects,
                sturdy=self._sturdy_keys(wanted.suspects),
                among_strangers=queue in self._with_strangers,
            )
        candidates = fit_together(found, self._max_crashes)
        sifting = Sifting(lambda ids: self._start_listed(queue, ids))
        sifting.sift(candidates)
        ended = self._unclaimed.settle(
            sifting.blamed,
            succeeded={claim.job.key for claim in sifting.claims},
            starts_another=lambda key, but: self._starts_another(queue, key, but),
        )
        return Taken(sifting.claims, ended, is_more=bool(candidates))

    def _starts_another(
        self, queue: str, key: str, but: set[int]
    ) -> list[Exception] | None:
        """Return what starting some others of *key* raised; None when one could be started.

        Nothing of it is kept. They are chosen by chance among the last, so that many that
        raise, at the head of a queue, hide none that does not.
        """
        with self._store.unwaiting() as connection:
            found = statements.find_last(connection, queue, key, limit=_LAST)
        others = [candidate.id for candidate in found if candidate.id not in but]
        errors: list[Exception] = []
        for job_id in self._sources.rng.sample(others, min(len(others), 3)):
            try:
                if self._could_start(job_id):
                    return None
            except Exception as error:
                if is_everyones(error):
                    raise
                errors.append(error)
        return errors

    def _could_start(self, job_id: int) -> bool:
        with self._store.transaction(lock_timeout=TABLE_PATIENCE) as connection:
            jobs = lock_listed(connection, [job_id], most=1)
            starts = self._works.start(connection, jobs, self._sources.clock.now())
            connection.rollback()
        return bool(starts.ready)

    def _start_listed(self, queue: str, ids: Sequence[int]) -> list[Claim]:
        _, claims = self._start_locked(
            queue, lambda connection: lock_listed(connection, ids, most=len(ids))
        )
        return claims

    def _start_locked(
        self, queue: str, lock: Callable[[Connection], Sequence[Job]]
    ) -> tuple[int, list[Claim]]:
        """Start the jobs that *lock* locks; return how many it did, and those that start."""
        now = self._sources.clock.now()
        # A claim that a crash of the server takes back leaves its jobs queued, as if it had never
        # been; what follows from it flushes it too.
        with (
            self._strays.watching(),
            self._store.transaction(
                flushes=False, lock_timeout=TABLE_PATIENCE
            ) as connection,
        ):
            jobs = lock(connection)
            if not jobs:
                return 0, []
            starts = self._works.start(connection, jobs, now)
            claims = self._mark(connection, starts.ready)
            if starts.busy:
                wait = POSTPONED_FOR * (1 + self._sources.rng.random() / 2)
                postpone(connection, [job.id for job in starts.busy], now + wait)
            for job, reason in starts.misfits:
                wait = wait_again(now - job.enqueued_at, self._sources.rng)
                statements.put_back(connection, job.id, now + wait, reason)
            if starts.stale:
                cancel_stale(connection, starts.stale, now)
            self._reach(CrashPoint.CLAIM_BEFORE_COMMIT)
        self._reach(CrashPoint.CLAIMED)
        self._tell(queue, claims, starts)
        return len(jobs), claims

    def _lock_best(
        self, connection: Connection, wanted: Wanted, keys: Sequence[str]
    ) -> Sequence[Job]:
        queue = wanted.queue
        limit = wanted.limit
        suspects = wanted.suspects
        lock = lock_among_strangers if queue in self._with_strangers else lock_queued
        sturdy = self._sturdy_keys(suspects)
        found = lock(
            connection, queue, keys, limit=limit, suspects=suspects, sturdy=sturdy
        )
        jobs = fit_together(found, self._max_crashes)
        if wanted.fills_chunks and len(jobs) == limit:
            jobs += self._lock_more(connection, queue, jobs)
        return jobs

    def _max_crashes(self, key: str) -> int:
        return self._works.policy(key).max_crashes

    def _sturdy_keys(self, suspects: Suspects) -> list[str]:
        """Return the keys whose jobs survive another crash after the first."""
        if suspects is not Suspects.SHARING:
            return []  # not asked for
        keys = self._works.keys()
        enough = TOGETHER_AFTER + 1
        return [key for key in keys if self._max_crashes(key) > enough]

    def _lock_more(
        self, connection: Connection, queue: str, jobs: Sequence[Job]
    ) -> list[Job]:
        """Lock what a call of the size of its chunk still takes, beside those of *jobs*."""
        known = {job.id for job in jobs}
        more: list[Job] = []
        for key in dict.fromkeys(job.key for job in jobs):
            chunk = self._works.policy(key).chunk
            tenants = {job.tenant for job in jobs if job.key == key and not job.attempt}
            if chunk is None or chunk.only_waiting or not tenants:
                continue
            found = lock_trusted(connection, queue, key, limit=chunk.size)
            more += [
                job
                for job in found
                if job.id not in known and job.tenant in tenants and not job.attempt
            ]
        return more

    def _mark(
        self, connection: Connection, ready: Sequence[tuple[Job, Subject]]
    ) -> list[Claim]:
        now = self._sources.clock.now()
        token = self._sources.ids()
        self._strays.note(token)
        until = now + self._settings.lease
        by_source: dict[str | None, list[int]] = {}
        for job, subject in ready:
            by_source.setdefault(subject.source, []).append(job.id)
        for source, ids in by_source.items():
            mark_processing(
                connection,
                ids,
                source=source,
                node=self._node_id,
                token=token,
                now=now,
                until=until,
            )
        began = self._sources.clock.monotonic()
        keys = {job.key for job, _ in ready}
        runs = {key: (self._works.policy(key), self._works.of(key)) for key in keys}
        held = {
            "state": JobState.PROCESSING,
            "owner": self._node_id,
            "token": token,
            "lease_until": until,
            "started_at": now,
        }
        return [
            Claim(
                job=structs.replace(
                    job, attempt=job.attempt + 1, record_source=subject.source, **held
                ),
                subject=subject,
                policy=runs[job.key][0],
                work=runs[job.key][1],
                began=began,
            )
            for job, subject in ready
        ]

    def _tell(self, queue: str, claims: Sequence[Claim], starts: Starts) -> None:
        if claims:
            self._telemetry.emit(JobsClaimed, queue=queue, count=len(claims))
        for job in starts.busy:
            self._telemetry.emit(JobPostponed, job=job)
        for job, reason in starts.misfits:
            log.info("job %s (%s) is put back: %s", job.id, job.key, reason)
            self._telemetry.emit(JobPostponed, job=job)
        for job_id, reason in starts.stale.items():
            self._telemetry.emit(JobStale, job_id=job_id, reason=reason)

"""Takes queued jobs for one node: locks them and their records, and marks both."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection

from statejobs.config import WorkerSettings
from statejobs.domain.clock import Sources
from statejobs.domain.job import Job, JobState, changed
from statejobs.domain.suspects import TOGETHER_AFTER, Suspects, fit_together
from statejobs.runner.points import CrashPoint, Reach, live_on
from statejobs.runner.port import Claim, Starts, Subject, Work
from statejobs.store.store import Store
from statejobs.telemetry import Event, Telemetry

POSTPONED_FOR = timedelta(seconds=1)
"""How long a job waits whose record was locked; up to half as much is added by chance."""


class Claiming:
    """Takes jobs that are queued, for `Runner.claim`; safe to call from several threads."""

    def __init__(
        self, store: Store, work: Work, *, node_id: str, settings: WorkerSettings,
        sources: Sources, telemetry: Telemetry, reach: Reach = live_on,
    ) -> None:  # fmt: skip
        self._store, self._work, self._node_id = store, work, node_id
        self._settings, self._sources, self._telemetry = settings, sources, telemetry
        self._reach = reach

    def claim(
        self, queue: str, *, limit: int, suspects: Suspects, fills_chunks: bool
    ) -> list[Claim]:
        """Take up to *limit* queued jobs of *queue*; see `Runner.claim`."""
        while True:
            found, claims = self._take(queue, limit, suspects, fills_chunks)
            if claims or not found:
                return claims

    def _take(
        self,
        queue: str,
        limit: int,
        suspects: Suspects,
        fills_chunks: bool,  # noqa: FBT001
    ) -> tuple[int, list[Claim]]:
        """Take a batch; return how many queued jobs were looked at, and those that start."""
        now = self._sources.clock.now()
        # A claim that a crash of the server takes back leaves its jobs queued, as if it had never
        # been; what follows from it flushes it too.
        with self._store.transaction(flushes=False) as connection:
            found = self._store.lock_queued(
                connection, queue, self._work.keys(), limit=limit, suspects=suspects,
                sturdy=self._sturdy_keys(suspects),
            )  # fmt: skip
            jobs = fit_together(found, lambda key: self._work.policy(key).max_crashes)
            if not jobs:
                return 0, []
            if fills_chunks and len(jobs) == limit:
                jobs += self._lock_more(connection, queue, jobs)
            starts = self._work.start(connection, jobs, now)
            claims = self._mark(connection, starts.ready)
            if starts.busy:
                wait = POSTPONED_FOR * (1 + self._sources.rng.random() / 2)
                self._store.postpone(connection, [job.id for job in starts.busy], now + wait)
            if starts.stale:
                self._store.cancel_stale(connection, starts.stale, now)
            self._reach(CrashPoint.CLAIM_BEFORE_COMMIT)
        self._reach(CrashPoint.CLAIMED)
        self._tell(queue, claims, starts)
        return len(jobs), claims

    def _sturdy_keys(self, suspects: Suspects) -> list[str]:
        """Return the keys whose jobs survive another crash after the first."""
        if suspects is not Suspects.SHARING:
            return []  # not asked for
        keys, enough = self._work.keys(), TOGETHER_AFTER + 1
        return [key for key in keys if self._work.policy(key).max_crashes > enough]

    def _lock_more(self, connection: Connection, queue: str, jobs: Sequence[Job]) -> list[Job]:
        """Lock what a call of the size of its chunk still takes, beside those of *jobs*."""
        known = {job.id for job in jobs}
        more: list[Job] = []
        for key in dict.fromkeys(job.key for job in jobs):
            chunk = self._work.policy(key).chunk
            tenants = {job.tenant for job in jobs if job.key == key and not job.attempt}
            if chunk is None or chunk.only_waiting or not tenants:
                continue
            found = self._store.lock_queued(
                connection, queue, [key], limit=chunk.size, suspects=Suspects.NONE
            )
            more += [
                job for job in found
                if job.id not in known and job.tenant in tenants and not job.attempt
            ]  # fmt: skip
        return more

    def _mark(self, connection: Connection, ready: Sequence[tuple[Job, Subject]]) -> list[Claim]:
        now, token = self._sources.clock.now(), self._sources.ids()
        until = now + self._settings.lease
        by_source: dict[str | None, list[int]] = {}
        for job, subject in ready:
            by_source.setdefault(subject.source, []).append(job.id)
        for source, ids in by_source.items():
            self._store.mark_processing(
                connection, ids, source=source, by=self._node_id, token=token, now=now, until=until
            )
        began = self._sources.clock.monotonic()
        held = {
            "state": JobState.PROCESSING,
            "owner": self._node_id,
            "token": token,
            "lease_until": until,
            "started_at": now,
        }
        return [
            Claim(
                job=changed(job, attempt=job.attempt + 1, record_source=subject.source, **held),
                subject=subject,
                policy=self._work.policy(job.key),
                began=began,
            )
            for job, subject in ready
        ]

    def _tell(self, queue: str, claims: Sequence[Claim], starts: Starts) -> None:
        if claims:
            self._telemetry.emit(Event.JOBS_CLAIMED, queue=queue, count=len(claims))
        for job in starts.busy:
            self._telemetry.emit(Event.JOB_POSTPONED, job=job)
        for job_id, reason in starts.stale.items():
            self._telemetry.emit(Event.JOB_STALE, job_id=job_id, reason=reason)

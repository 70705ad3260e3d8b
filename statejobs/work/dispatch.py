"""The work port over several kinds of work, so that one runner serves them all."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from statejobs.runner.port import (
    AsyncRun,
    Claim,
    Ending,
    Policy,
    Run,
    Starts,
    Subject,
    Whereabouts,
    Work,
)
from statejobs.store.faults import is_away
from statejobs.values.job import Job, JobState
from statejobs.values.lifecycle import Landing, Settlement

log = logging.getLogger("statejobs.runner")


class WorkByKey:
    """Hands each job to the work that declares its key."""

    def __init__(self, works: Sequence[Work]) -> None:
        """Join *works*, whose keys are disjoint: the registry sees to that."""
        self._works: dict[str, Work] = {}
        for work in works:
            self._works.update(dict.fromkeys(work.keys(), work))
        self._keys = tuple(self._works)
        self._policies: dict[str, Policy] = {}

    def keys(self) -> Sequence[str]:
        """Keys and aliases of all."""
        return self._keys

    def policy(self, key: str) -> Policy:
        """Return how jobs of *key* are run."""
        found = self._policies.get(key)
        if found is None:
            found = self._policies[key] = self._works[key].policy(key)
        return found

    def start(self, connection: Connection, jobs: Sequence[Job], now: datetime) -> Starts:
        """Let each kind start its own of *jobs*; those that are ready keep their order."""
        groups: dict[Work, list[Job]] = {}
        for job in jobs:
            groups.setdefault(self._works[job.key], []).append(job)
        if len(groups) == 1:
            ((work, own),) = groups.items()
            return work.start(connection, own, now)
        found = [work.start(connection, own, now) for work, own in groups.items()]
        return _joined(found, jobs)

    def of(self, key: str) -> Work:
        """Return who runs the jobs of *key*."""
        return self._works[key]

    def open(self, claim: Claim, now: datetime) -> Run:
        """Return an attempt of a `def` body."""
        return self._of(claim).open(claim, now)

    def open_async(self, claim: Claim, now: datetime) -> AsyncRun:
        """Return an attempt of an `async def` body."""
        return self._of(claim).open_async(claim, now)

    def land(
        self, connection: Connection, claim: Claim, landing: Landing, *, now: datetime,
        reason: str | None = None, changes: Mapping[str, Any] | None = None,
    ) -> bool:  # fmt: skip
        """Move the record, if there is one, where the outcome leads."""
        return self._of(claim).land(
            connection, claim, landing, now=now, reason=reason, changes=changes
        )

    def land_and_finish(
        self, connection: Connection, claim: Claim, settlement: Settlement, *, now: datetime,
        changes: Mapping[str, Any],
    ) -> JobState | None:  # fmt: skip
        """Move the record, if there is one, and end the job, in one statement."""
        return self._of(claim).land_and_finish(
            connection, claim, settlement, now=now, changes=changes
        )

    def finish_together(self, successes: Sequence[Ending], *, now: datetime) -> frozenset[int]:
        """Let each kind complete its own; what one cannot takes nothing from the others."""
        groups: dict[Work, list[Ending]] = {}
        for success in successes:
            groups.setdefault(self._of(success.claim), []).append(success)
        if len(groups) == 1:
            ((work, own),) = groups.items()
            return work.finish_together(own, now=now)
        finished: frozenset[int] = frozenset()
        for work, own in groups.items():
            try:
                finished |= work.finish_together(own, now=now)
            except Exception as error:  # noqa: BLE001 - one by one, they tell whose fault it was
                log.debug("%d jobs are finished one by one: %s", len(own), error)
                for success in own:
                    success.claim.is_unsure |= is_away(error)
        return finished

    def rests_in_source(self, connection: Connection, claim: Claim) -> bool:
        """Return whether the work could be done again."""
        return self._of(claim).rests_in_source(connection, claim)

    def whereabouts(self, connection: Connection, claim: Claim) -> Whereabouts:
        """Look where the record of an attempt went."""
        return self._of(claim).whereabouts(connection, claim)

    def recover(self, connection: Connection, job: Job) -> Any | None:
        """Return the subject of a job whose worker is gone; None when someone holds it."""
        return self._works[job.key].recover(connection, job)

    def find_at_rest(self, connection: Connection, job: Job) -> Any:
        """Return the subject of a job that could not be claimed."""
        return self._works[job.key].find_at_rest(connection, job)

    def discarded(self, connection: Connection, claim: Claim, reason: str) -> BaseException | None:
        """Run the `on_discard`; return what it raised."""
        return self._of(claim).discarded(connection, claim, reason)

    def _of(self, claim: Claim) -> Work:
        return self._works[claim.job.key]


def _joined(found: Sequence[Starts], jobs: Sequence[Job]) -> Starts:
    place = {job.id: number for number, job in enumerate(jobs)}
    ready: list[tuple[Job, Subject]] = [pair for starts in found for pair in starts.ready]
    return Starts(
        ready=sorted(ready, key=lambda pair: place[pair[0].id]),
        busy=[job for starts in found for job in starts.busy],
        stale={job_id: why for starts in found for job_id, why in starts.stale.items()},
        misfits=[misfit for starts in found for misfit in starts.misfits],
    )

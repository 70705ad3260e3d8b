"""The work port over several kinds of work, so that one runner serves them all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property

from sqlalchemy import Connection

from statejobs.runner.answers import Starts, Subject
from statejobs.runner.port import Policy, Work
from statejobs.values.job import Job


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

    def unpaused_keys(self) -> Sequence[str]:
        """Those whose jobs may start."""
        return self._unpaused

    @cached_property
    def _unpaused(self) -> Sequence[str]:
        return tuple(key for key in self._keys if not self.policy(key).is_paused)

    def policy(self, key: str) -> Policy:
        """Return how jobs of *key* are run."""
        found = self._policies.get(key)
        if found is None:
            found = self._policies[key] = self._works[key].policy(key)
        return found

    def start(
        self, connection: Connection, jobs: Sequence[Job], now: datetime
    ) -> Starts:
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


def _joined(found: Sequence[Starts], jobs: Sequence[Job]) -> Starts:
    place = {job.id: number for number, job in enumerate(jobs)}
    ready: list[tuple[Job, Subject]] = [
        pair for starts in found for pair in starts.ready
    ]
    return Starts(
        ready=sorted(ready, key=lambda pair: place[pair[0].id]),
        busy=[job for starts in found for job in starts.busy],
        stale={
            job_id: reason
            for starts in found
            for job_id, reason in starts.stale.items()
        },
        misfits=[misfit for starts in found for misfit in starts.misfits],
    )

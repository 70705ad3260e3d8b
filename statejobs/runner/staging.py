"""Queues the jobs of this node whose time has come."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from statejobs.runner.blame import Blame, blame_for
from statejobs.runner.halves import in_halves
from statejobs.store.staging import find_due, stage_due, stage_listed
from statejobs.store.store import Store

log = logging.getLogger("statejobs.runner")

_BATCH = 1000
_SMALL_BATCH = 100


class Staging:
    """Stages in batches; a job that the database refuses to queue keeps none from it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told: set[int] = set()

    def run_once(
        self, queues: Sequence[str], keys: Sequence[str], now: datetime
    ) -> frozenset[str]:
        """Queue the due jobs of *queues* and *keys*; return the queues that got some.

        Raises:
            Exception: It concerns no job in particular.
        """
        try:
            return stage_due(self._store, queues, keys, now, limit=_BATCH)
        except Exception as error:
            if blame_for(error) not in {Blame.JOB, Blame.LOCK}:
                raise
        due = find_due(self._store, queues, keys, now, limit=_SMALL_BATCH)
        staged: set[str] = set()

        def stage(ids: Sequence[int]) -> None:
            staged.update(stage_listed(self._store, ids))

        in_halves(due, stage, self._is_refused)
        return frozenset(staged)

    def _is_refused(self, ids: Sequence[int], error: Exception) -> bool:
        blame = blame_for(error)
        if blame not in {Blame.JOB, Blame.LOCK, Blame.MOMENT}:
            raise error
        if len(ids) > 1:
            return False
        if blame is Blame.JOB and ids[0] not in self._told:
            self._told.add(ids[0])
            log.error(
                "job %s is due, and the database refuses to queue it: %s", ids[0], error
            )
        return True

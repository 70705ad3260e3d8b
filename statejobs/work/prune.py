"""Prunes: deletes ended jobs and history that are older than they are kept."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from statejobs.config import Retention
from statejobs.declare.registry import Registry
from statejobs.errors import NotFoundError
from statejobs.events import RowsPruned
from statejobs.record.identity import decode_identity, encode_identity
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.runner.blame import Blame, blame_for, is_everyones
from statejobs.runner.halves import in_halves
from statejobs.store import prune as statements
from statejobs.store.faults import words_of
from statejobs.store.prune import START, EndedJob
from statejobs.store.record_rows import find_in_states
from statejobs.store.store import TABLE_PATIENCE, Store
from statejobs.telemetry import Telemetry
from statejobs.values.clock import FIRST, Sources
from statejobs.values.job import ENDED, JobState

log = logging.getLogger("statejobs.prune")

_MOST_NAMED = 10


@dataclass(slots=True, kw_only=True)
class Pruned:
    """What was deleted; after a dry run, what would be."""

    jobs: dict[JobState, int] = field(default_factory=lambda: dict.fromkeys(ENDED, 0))
    attempts: int = 0
    history: int = 0
    ticks: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to delete."""
        beside = (self.attempts, self.history, self.ticks)
        return not any((*self.jobs.values(), *beside))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Which jobs are looked at together."""

    state: JobState
    before: datetime
    now: datetime
    ids: Sequence[int]
    dry_run: bool

    def find(
        self, connection: Connection, *, lock: bool, only: Sequence[int] | None = None
    ) -> list[EndedJob]:
        """Return those that are old enough still, or those of *only*."""
        ids = self.ids if only is None else only
        return statements.read_ended(
            connection, self.state, self.before, ids, now=self.now, lock=lock
        )


class Pruner:
    """Deletes in small transactions that wait for nobody, so several nodes may do it at once."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        retention: Retention,
        *,
        sources: Sources,
        telemetry: Telemetry,
    ) -> None:
        self._registry = registry
        self._store = store
        self._retention = retention
        self._sources = sources
        self._telemetry = telemetry

    def run_once(self) -> Pruned:
        """Delete what is older than the app keeps it."""
        return self.prune(self._retention)

    def prune(self, retention: Retention, *, dry_run: bool = False) -> Pruned:
        """Delete what is older than *retention* keeps it, or only count it."""
        now = self._sources.clock.now()
        pruned = Pruned()
        for state in ENDED:
            age = retention.of(state)
            if age is not None and age < now - FIRST:  # else nothing is that old
                self._prune_jobs(
                    state, age, now, retention.batch, pruned, dry_run=dry_run
                )
        if retention.history is not None and retention.history < now - FIRST:
            before = now - retention.history
            self._prune_history(before, retention.batch, pruned, dry_run=dry_run)
        age = retention.ticks if self._registry.schedules else None
        if age is not None and age < now - FIRST:
            pruned.ticks = self._prune_ticks(
                now - age, retention.batch, dry_run=dry_run
            )
        if not dry_run and not pruned.is_empty:
            self._telemetry.emit(
                RowsPruned,
                jobs=sum(pruned.jobs.values()),
                attempts=pruned.attempts,
                history=pruned.history,
                ticks=pruned.ticks,
            )
        return pruned

    def _prune_jobs(
        self,
        state: JobState,
        age: timedelta,
        now: datetime,
        batch: int,
        pruned: Pruned,
        *,
        dry_run: bool,
    ) -> None:
        before = now - age
        after = START
        while after != before:
            with self._store.unwaiting() as connection:
                ids, after = statements.find_ended(
                    connection, state, before, after=after, limit=batch
                )
            for start in range(0, len(ids), batch):
                part = ids[start : start + batch]
                self._prune_batch(
                    _Batch(
                        state=state, before=before, now=now, ids=part, dry_run=dry_run
                    ),
                    pruned,
                )

    def _prune_batch(self, batch: _Batch, pruned: Pruned) -> None:
        """Prune a batch with one transaction; in parts, when one of it cannot be pruned."""
        try:
            self._prune_part(batch, pruned)
        except Exception as error:
            if is_everyones(error):
                raise
        else:
            return
        with self._store.unwaiting() as connection:
            found = batch.find(connection, lock=False)

        def prune(part: Sequence[EndedJob]) -> None:
            self._prune_part(batch, pruned, only=[job.id for job in part])

        for key, own in _by_key(found).items():
            in_halves(own, prune, partial(_is_left, f"jobs of {key}"), whole_first=True)

    def _prune_part(
        self, batch: _Batch, pruned: Pruned, *, only: Sequence[int] | None = None
    ) -> None:
        with self._store.transaction(lock_timeout=TABLE_PATIENCE) as connection:
            found = batch.find(connection, lock=not batch.dry_run, only=only)
            ids = self._unneeded(connection, batch.state, found)
            act = statements.count_attempts if batch.dry_run else statements.delete_jobs
            attempts = act(connection, ids)
        pruned.attempts += attempts
        pruned.jobs[batch.state] += len(ids)

    def _prune_history(
        self, before: datetime, batch: int, pruned: Pruned, *, dry_run: bool
    ) -> None:
        after = 0
        is_more = True

        def delete(ids: Sequence[int]) -> None:
            with self._store.transaction(lock_timeout=TABLE_PATIENCE) as connection:
                statements.delete_history(connection, ids)
            pruned.history += len(ids)

        while is_more:
            with self._store.unwaiting() as connection:
                ids = statements.find_history(
                    connection, before, after=after, limit=batch
                )
            if dry_run:
                pruned.history += len(ids)
            else:
                in_halves(ids, delete, partial(_is_left, "history"), whole_first=True)
            is_more = len(ids) == batch
            after = ids[-1] if ids else after

    def _prune_ticks(self, before: datetime, batch: int, *, dry_run: bool) -> int:
        """Delete ticks older than then, or count them; return how many."""
        if dry_run:
            with self._store.unwaiting() as connection:
                return statements.count_ticks(connection, before)
        pruned, deleted = 0, batch
        while deleted >= batch:
            with self._store.transaction(lock_timeout=TABLE_PATIENCE) as connection:
                deleted = statements.delete_ticks(connection, before, limit=batch)
            pruned += deleted
        return pruned

    def _unneeded(
        self, connection: Connection, state: JobState, found: Iterable[EndedJob]
    ) -> list[int]:
        """Return the ids of those that no retry will continue."""
        if state is JobState.COMPLETED:
            return [job.id for job in found]
        ids: list[int] = []
        for key, ended in _by_key(found).items():
            declared = self._registry.triggers.get(key)
            if key in self._registry.tasks:
                ids += [job.id for job in ended]
            elif declared is not None:
                # what this app does not know, another may still need
                waiting = _resting(connection, *declared, ended)
                ids += [job.id for job in ended if job.record_id not in waiting]
        return sorted(ids)


def _by_key(found: Iterable[EndedJob]) -> dict[str, list[EndedJob]]:
    by_key: dict[str, list[EndedJob]] = {}
    for job in found:
        by_key.setdefault(job.key, []).append(job)
    return by_key


def _is_left(what: str, part: Sequence[EndedJob | int], error: Exception) -> bool:
    """Return whether *part* is left where it is: one row, or all of a key whose table is missing.

    Raises:
        Exception: It concerns everyone.
    """
    blame = blame_for(error)
    if blame is Blame.EVERYONE:
        raise error
    if len(part) > 1 and blame is not Blame.KEY:
        return False
    ids = [one if isinstance(one, int) else one.id for one in part[:_MOST_NAMED]]
    log.warning("%s cannot be pruned, ids %s: %s", what, ids, words_of(error))
    return True


def _resting(
    connection: Connection,
    model: ResourceModel,
    bound: BoundTrigger,
    ended: Iterable[EndedJob],
) -> set[str]:
    """Return the ids of records that rest where their job left them when it gave up."""
    keys = [key for job in ended if (key := _decoded(model, job.record_id)) is not None]
    states = [bound.failed] if bound.failed else list(bound.sources)
    if bound.during is not None:  # stuck
        states.append(bound.during)
    resting = find_in_states(connection, model.records, keys, states)
    return {encode_identity(identity) for identity in resting}


def _decoded(model: ResourceModel, record_id: str | None) -> tuple[object, ...] | None:
    try:
        return None if record_id is None else decode_identity(model.mapper, record_id)
    except NotFoundError:  # the key has another type by now: there is no such record
        return None

"""The work port of the runner, for triggers of resources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from statejobs.declare.domain import Registry
from statejobs.record.bulk.checks import models_within
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.runner.port import (
    AsyncRun,
    Chunk,
    Claim,
    Ending,
    MovedAway,
    Policy,
    RecordHidden,
    Run,
    Starts,
    Whereabouts,
    Work,
)
from statejobs.store.faults import sqlstate_of
from statejobs.store.finish import finish_parameters
from statejobs.store.fusion import NOT_OURS, fuse, history_parameters
from statejobs.store.history import write_history
from statejobs.store.prepared import Prepared
from statejobs.store.records import Identity, lock_place
from statejobs.store.store import Store
from statejobs.values.clock import Sources
from statejobs.values.graph import EdgeKind
from statejobs.values.job import Job, JobState
from statejobs.values.lifecycle import Landing, Settlement
from statejobs.values.waiting import OTHER_CODE
from statejobs.work.declares import Declarations
from statejobs.work.discarding import run_hook
from statejobs.work.fitting import Arguments
from statejobs.work.records.atomic_attempt import MOST_IN_A_BATCH, AtomicBatches
from statejobs.work.records.attempt import AsyncRecordRun, RecordRun
from statejobs.work.records.changes import move_with_changes
from statejobs.work.records.chunk_attempt import RecordChunks
from statejobs.work.records.claim import identities_of, lock_records, move_to_during, write_claims
from statejobs.work.records.deletion import land_deleted
from statejobs.work.records.finding import find_at_rest, find_left, refuse_hidden
from statejobs.work.records.finish import finish_together
from statejobs.work.records.hidden import moved_or_hidden
from statejobs.work.records.kept import is_written_already, why_not_moved
from statejobs.work.records.misfits import leave_misfits
from statejobs.work.records.subject import (
    RecordSubject,
    came_by_declared_move,
    history_row,
    land_record,
    landing_parameters,
    where_to,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_KINDS = {
    Landing.TARGET: EdgeKind.COMPLETE,
    Landing.SOURCE: EdgeKind.RETURN,
    Landing.FAILED: EdgeKind.DISCARD,
}


class RecordWork:
    """Runs the actions of triggers on their records."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        sources: Sources,
        async_engine: Callable[[], AsyncEngine],
        declarations: Declarations,
    ) -> None:
        self._registry, self._store, self._sources = registry, store, sources
        self._async_engine, self._declarations = async_engine, declarations
        self._keys = tuple(registry.triggers)
        self._chunks, self._batches = RecordChunks(store, sources), AtomicBatches(store, sources)

    def keys(self) -> Sequence[str]:
        """Keys and aliases of all triggers."""
        return self._keys

    def policy(self, key: str) -> Policy:
        """Return how jobs of *key* are run."""
        _, bound = self._registry.triggers[key]
        options = bound.options
        return Policy(
            max_attempts=options.max_attempts,
            max_crashes=options.max_crashes,
            backoff=options.backoff,
            timeout=options.timeout,
            is_async=bound.action.is_async,
            chunk=self._chunk(bound),
            during=bound.during,
            deletes=bound.deletes,
        )

    def _chunk(self, bound: BoundTrigger) -> Chunk | None:
        if bound.options.chunk is not None:
            return Chunk(size=bound.options.chunk, work=self._chunks)
        action = bound.action
        if action.is_atomic and not action.is_async and bound.options.timeout is None:
            return Chunk(size=MOST_IN_A_BATCH, work=self._batches, only_waiting=True)
        return None

    def of(self, key: str) -> Work:
        """Return itself."""
        del key
        return self

    def start(self, connection: Connection, jobs: Sequence[Job], now: datetime) -> Starts:
        """Lock and move the records of *jobs*: a fixed number of statements for each key."""
        ready: list[tuple[Job, RecordSubject]] = []
        busy: list[Job] = []
        stale: dict[int, str] = {}
        misfits: list[tuple[Job, str]] = []
        started: dict[str, set[Identity]] = {}
        for key in dict.fromkeys(job.key for job in jobs):
            model, bound = self._registry.triggers[key]
            known: dict[Identity, Job] = {}
            for job, identity in identities_of(model, [j for j in jobs if j.key == key]):
                if identity is None:
                    stale[job.id] = f"{job.record_id!r} is not a key of {model.name}"
                else:
                    known[identity] = job
            if not known:
                continue
            locked = lock_records(connection, model, bound, list(known), started=started)
            owned = {i: (known[i], bound.of(found[0])) for i, found in locked.found.items()}
            if locked.hidden and not locked.found:
                raise RecordHidden(next(iter(locked.hidden.values())))
            args = leave_misfits(
                connection, self._declarations, key=key, resource=model.name, locked=locked,
                jobs=owned,
            )  # fmt: skip
            started.setdefault(bound.key, set()).update(locked.found)
            move_to_during(connection, model, bound, locked, now)
            ready += [
                (
                    known[identity],
                    _subject(owned[identity][1], identity, *found, args=args[identity]),
                )
                for identity, found in locked.found.items()
            ]
            busy += [known[identity] for identity in locked.busy]
            stale |= {known[identity].id: why for identity, why in locked.stale.items()}
            misfits += [(known[identity], why) for identity, why in locked.misfits.items()]
            misfits += [(known[i], f"{OTHER_CODE}{why}") for i, why in locked.hidden.items()]
        order = {job.id: place for place, job in enumerate(jobs)}
        ready.sort(key=lambda pair: order[pair[0].id])
        write_claims(connection, ready, now)
        return Starts(ready=ready, busy=busy, stale=stale, misfits=misfits)

    def open(self, claim: Claim, now: datetime) -> Run:
        """Return an attempt of a `def` action."""
        return RecordRun(self._store, claim, self._sources, now)

    def open_async(self, claim: Claim, now: datetime) -> AsyncRun:
        """Return an attempt of an `async def` action."""
        return AsyncRecordRun(self._store, self._async_engine(), claim, self._sources, now)

    def land(
        self, connection: Connection, claim: Claim, landing: Landing, *, now: datetime,
        reason: str | None = None, changes: Mapping[str, Any] | None = None,
    ) -> bool:  # fmt: skip
        """Move the record where the outcome leads; return whether it rests in a source.

        Raises:
            MovedAway: Someone else moved it first.
            RecordHidden: Nobody can tell whether someone did.
            RecordKeptError: Nobody did, and the database does not let it go.
        """
        subject: RecordSubject = claim.subject
        kind = _KINDS[landing]
        if kind is EdgeKind.COMPLETE and subject.bound.deletes:
            land_deleted(connection, claim, subject, now)
            return False
        target = subject.resting(kind)
        if target == subject.state and kind is not EdgeKind.COMPLETE:
            return self._stay(connection, subject)  # without `during` the job moves nothing
        if not land_record(connection, subject, target, now, changes) and not is_written_already(
            connection, subject, target, changes or {}
        ):
            raise why_not_moved(connection, subject)
        if subject.model.has_history:
            row = history_row(
                claim.job, subject, kind, target, now,
                attempt=claim.job.attempt, reason=reason, duration=claim.duration,
            )  # fmt: skip
            write_history(connection, [row])
        return target in subject.bound.sources

    def land_and_finish(
        self, connection: Connection, claim: Claim, settlement: Settlement, *, now: datetime,
        changes: Mapping[str, Any],
    ) -> JobState | None:  # fmt: skip
        """Move the record to its target and complete the job, in one statement.

        Raises:
            MovedAway: Someone else moved the record first.
            RecordHidden: Nobody can tell whether someone did.
            RecordKeptError: Nobody did, and the database does not let it go.
        """
        subject: RecordSubject = claim.subject
        target = subject.bound.target
        given = finish_parameters(
            claim.job,
            settlement,
            now=now,
            rests_in_source=target in subject.bound.sources,
            allowance=claim.policy.max_attempts,
        )
        if subject.model.has_history:
            row = history_row(
                claim.job, subject, EdgeKind.COMPLETE, target, now,
                attempt=claim.job.attempt, duration=claim.duration,
            )  # fmt: skip
            given |= history_parameters(row)
        landing = landing_parameters(subject, target, now, changes)
        parameters = subject.model.names.of(given) | landing
        try:
            fused = _fused(subject.model, tuple(changes), connection.dialect)
            found = fused.execute(connection, parameters).one()
        except DBAPIError as error:
            if sqlstate_of(error) == NOT_OURS:
                return None
            raise
        if found.moved == 0:
            raise why_not_moved(connection, subject)
        return JobState(found.state)

    def finish_together(self, successes: Sequence[Ending], *, now: datetime) -> frozenset[int]:
        """Move the records and complete the jobs of those that stand as they were left."""
        return finish_together(self._store, successes, now)

    def rests_in_source(self, connection: Connection, claim: Claim) -> bool:
        """Lock the record; return whether it waits for its job again."""
        subject: RecordSubject = claim.subject
        found = lock_place(connection, subject.model.records, subject.identity)
        return found is not None and found[0] in subject.bound.sources

    def whereabouts(self, connection: Connection, claim: Claim) -> Whereabouts:
        """Lock the record of an attempt that was moved away, and look where it went."""
        subject: RecordSubject = claim.subject
        found = lock_place(connection, subject.model.records, subject.identity)
        if found is None:
            refuse_hidden(connection, subject.model)
        is_back = found == (subject.state, subject.version)
        return Whereabouts(
            reason=None if is_back else where_to(subject, found and found[0]),
            rests_in_source=found is not None and found[0] in subject.bound.sources,
            is_declared=came_by_declared_move(connection, subject, found),
        )

    def recover(self, connection: Connection, job: Job) -> RecordSubject | None:
        """Lock the record of a job whose worker is gone; None when someone holds it."""
        return find_left(self._registry, connection, job)

    def find_at_rest(self, connection: Connection, job: Job) -> RecordSubject:
        """Lock the record of a job that could not be claimed."""
        return find_at_rest(self._registry, connection, job)

    def discarded(self, connection: Connection, claim: Claim, reason: str) -> BaseException | None:
        """Run the trigger's `on_discard` in a savepoint; return what it raised."""
        subject: RecordSubject = claim.subject
        if not _may_tell(subject.model, subject.bound):
            return None

        def call(session: Session) -> object:
            record: Any = session.get(subject.model.cls, subject.identity)
            hook = None if record is None else subject.bound.of(record).discard_hook
            return None if hook is None else hook.body(record, session, reason)

        return run_hook(connection, claim, self._sources, call)

    def _stay(self, connection: Connection, subject: RecordSubject) -> bool:
        found = lock_place(connection, subject.model.records, subject.identity)
        if found is None:
            raise moved_or_hidden(connection, subject)
        if found != (subject.state, subject.version):
            raise MovedAway(where_to(subject, found[0]))
        return subject.state in subject.bound.sources


@lru_cache(maxsize=1024)
def _fused(model: ResourceModel, changed: tuple[str, ...], dialect: Dialect) -> Prepared:
    move = move_with_changes(model, changed)
    return Prepared(fuse(move, model.names, has_history=model.has_history), dialect)


def _may_tell(model: ResourceModel, bound: BoundTrigger) -> bool:
    """Return whether a record of *model*, which may be of a subclass, has an `on_discard`."""
    owns = (within.triggers.get(bound.key, bound) for within in models_within(model))
    return any(own.discard_hook is not None for own in owns)


def _subject(
    bound: BoundTrigger,
    identity: Identity,
    record: object,
    state: str,
    version: int,
    *,
    args: Arguments | None,
) -> RecordSubject:
    model: ResourceModel = type(record).__statejobs__  # type: ignore[attr-defined]
    return RecordSubject(
        model=model,
        bound=bound,
        identity=identity,
        source=state,
        state=bound.during or state,
        version=version,
        record=record,
        args=args,
    )

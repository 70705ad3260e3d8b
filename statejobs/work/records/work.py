"""The work port of the runner, for triggers of resources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import structs
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from statejobs.acting import Acting
from statejobs.declare.registry import Registry
from statejobs.record.model import ResourceModel, models_within
from statejobs.record.specs import BoundTrigger
from statejobs.runner.answers import Starts, Whereabouts
from statejobs.runner.port import Attempt, Chunk, Claim, Policy
from statejobs.store.landing import Move
from statejobs.store.records import Identity, lock_place
from statejobs.store.store import Store
from statejobs.values.clock import Sources
from statejobs.values.graph import EdgeKind
from statejobs.values.job import Job
from statejobs.values.lifecycle import Landing
from statejobs.values.opened import Opened
from statejobs.values.outcome import HookKind
from statejobs.values.waiting import OTHER_CODE
from statejobs.work.declares import Declarations
from statejobs.work.face import open_face
from statejobs.work.hooks import run_hook
from statejobs.work.policies import policy_of
from statejobs.work.records.attempt import RecordAttempt
from statejobs.work.records.batch import MOST_IN_A_BATCH, Batch
from statejobs.work.records.claim import (
    LockedRecords,
    identities_of,
    lock_records,
    move_to_during,
    write_claims,
)
from statejobs.work.records.dropped import Dropped
from statejobs.work.records.finding import find_at_rest, find_left, refuse_hidden
from statejobs.work.records.hold import Hold
from statejobs.work.records.misfits import leave_misfits
from statejobs.work.records.reloading import reload
from statejobs.work.records.subject import (
    RecordSubject,
    came_by_declared_move,
    move_of,
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
        *,
        opened: Opened,
        dropped: Dropped,
    ) -> None:
        self._registry = registry
        self._store = store
        self._sources = sources
        self._async_engine = async_engine
        self._declarations = declarations
        self._opened = opened
        self._dropped = dropped
        self._keys = tuple(registry.triggers)

    def keys(self) -> Sequence[str]:
        """Keys and aliases of all triggers."""
        return self._keys

    def policy(self, key: str) -> Policy:
        """Return how jobs of *key* are run."""
        _, bound = self._registry.triggers[key]
        return policy_of(
            bound.options,
            is_async=bound.action.is_async,
            chunk=_chunk(bound),
            during=bound.during,
        )

    def start(
        self, connection: Connection, jobs: Sequence[Job], now: datetime
    ) -> Starts:
        """Lock and move the records of *jobs*: a fixed number of statements for each key."""
        ready: list[tuple[Job, RecordSubject]] = []
        busy: list[Job] = []
        stale: dict[int, str] = {}
        misfits: list[tuple[Job, str]] = []
        started: dict[str, set[Identity]] = {}
        alike = dict.fromkeys((job.key, _is_candidate(job)) for job in jobs)
        for key, is_picked in alike:
            model, bound = self._registry.triggers[key]
            own = [
                job
                for job in jobs
                if job.key == key and _is_candidate(job) is is_picked
            ]
            known = _known(model, own, stale)
            if not known:
                continue
            locked = lock_records(
                connection,
                model,
                bound,
                list(known),
                started=started,
                picked_at=now if is_picked else None,
            )
            known = _with_tenants(model, known, locked)
            owned = _owned(bound, known, locked)
            if locked.hidden and not locked.found:
                raise next(iter(locked.hidden.values()))
            args = leave_misfits(
                connection,
                self._declarations,
                key=key,
                resource=model.name,
                locked=locked,
                jobs=owned,
            )
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
            stale |= {
                known[identity].id: reason for identity, reason in locked.stale.items()
            }
            misfits += [
                (known[identity], reason) for identity, reason in locked.misfits.items()
            ]
            misfits += [
                (known[i], f"{OTHER_CODE}{reason}")
                for i, reason in locked.hidden.items()
            ]
        order = {job.id: place for place, job in enumerate(jobs)}
        ready.sort(key=lambda pair: order[pair[0].id])
        write_claims(connection, ready, now)
        return Starts(ready=ready, busy=busy, stale=stale, misfits=misfits)

    def open(self, claims: Sequence[Claim], now: datetime) -> Attempt:
        """Return an attempt of one action."""
        claim = claims[0]
        is_chunk = claim.subject.bound.action.is_chunk
        if len(claims) > 1 and not is_chunk:
            return Batch(
                self._store,
                claims,
                sources=self._sources,
                now=now,
                opened=self._opened,
                dropped=self._dropped,
            )
        hold = Hold([one.subject for one in claims])
        face = open_face(
            self._store,
            self._async_engine,
            claim,
            self._sources,
            job=None if is_chunk else claim.job,
            on_begin=hold,
        )
        return RecordAttempt(
            face,
            claims,
            hold=hold,
            store=self._store,
            sources=self._sources,
            now=now,
            opened=self._opened,
            dropped=self._dropped,
        )

    def reload(self, claims: Sequence[Claim]) -> frozenset[int]:
        """Load the records again; return the ids of jobs whose record is where it was left."""
        return reload(self._store, claims)

    def move_of(
        self,
        claim: Claim,
        landing: Landing,
        *,
        now: datetime,
        reason: str | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> Move | None:
        """Return where the record goes that an outcome leads to *landing*; None if it stays."""
        if not claim.subject.bound.targets:
            return None
        job = claim.job
        return move_of(
            job,
            claim.subject,
            _KINDS[landing],
            now,
            attempt=job.attempt,
            reason=reason,
            duration=claim.duration,
            changes=changes,
        )

    def look(self, connection: Connection, claim: Claim) -> Whereabouts:
        """Lock the record of an attempt; return where it is."""
        subject: RecordSubject = claim.subject
        found = lock_place(connection, subject.model.records, subject.identity)
        is_there = found is not None and subject.stands(found)
        if found is None:
            refuse_hidden(connection, subject.model)
        return Whereabouts(
            reason=None if is_there else where_to(subject, found and found[0]),
            rests_in_source=found is not None and found[0] in subject.bound.sources,
            is_declared=not is_there
            and came_by_declared_move(connection, subject, found),
        )

    def recover(self, connection: Connection, job: Job) -> RecordSubject | None:
        """Lock the record of a job whose worker is gone; None when someone holds it."""
        return find_left(self._registry, connection, job)

    def find_at_rest(self, connection: Connection, job: Job) -> RecordSubject:
        """Lock the record of a job that could not be claimed."""
        return find_at_rest(self._registry, connection, job)

    def run_hook(
        self, connection: Connection, claim: Claim, kind: HookKind, reason: str
    ) -> BaseException | None:
        """Run the trigger's hook of *kind* in a savepoint; return what it raised."""
        subject: RecordSubject = claim.subject
        if not _may_tell(subject.model, subject.bound, kind):
            return None

        def call(session: Session) -> object:
            record: Any = session.get(subject.model.cls, subject.identity)
            hooks = {} if record is None else subject.bound.of(record).hooks
            hook = hooks.get(kind)
            return None if hook is None else hook.body(record, session, reason)

        return run_hook(connection, claim, self._sources, call, kind=kind)


def _is_candidate(job: Job) -> bool:
    """Return whether the record must match still: a tick has picked it, and no attempt has begun.

    What an attempt did to its record, such as a move to `during`, is no reason not to try again.
    """
    return job.tick_at is not None and job.started_at is None


def _known(
    model: ResourceModel, jobs: Sequence[Job], stale: dict[int, str]
) -> dict[Identity, Job]:
    """Return *jobs* by their records; those of no record go to *stale*."""
    known: dict[Identity, Job] = {}
    for job, identity in identities_of(model, jobs):
        if identity is None:
            stale[job.id] = f"{job.record_id!r} is not a key of {model.name}"
        else:
            known[identity] = job
    return known


def _with_tenants(
    model: ResourceModel, jobs: dict[Identity, Job], locked: LockedRecords
) -> dict[Identity, Job]:
    """Return *jobs*, each for the tenant whose its record is now, where the class says so."""
    if model.tenant is None:
        return jobs
    found = dict(jobs)
    for identity, (record, *_) in locked.found.items():
        job = jobs[identity]
        tenant = model.tenant_of(record, Acting(None, job.tenant, is_named=False))
        if tenant != job.tenant:
            found[identity] = structs.replace(job, tenant=tenant)
    return found


def _owned(
    bound: BoundTrigger, jobs: Mapping[Identity, Job], locked: LockedRecords
) -> dict[Identity, tuple[Job, BoundTrigger]]:
    """Return the job of each record, and its trigger as the class of the record has it.

    A subclass may override its action.
    """
    kinds = {type(record): record for record, *_ in locked.found.values()}
    own = {kind: bound.of(record) for kind, record in kinds.items()}
    return {i: (jobs[i], own[type(found[0])]) for i, found in locked.found.items()}


def _chunk(bound: BoundTrigger) -> Chunk | None:
    if bound.options.chunk is not None:
        return Chunk(size=bound.options.chunk)
    action = bound.action
    if action.is_atomic and not action.is_async and bound.options.timeout is None:
        return Chunk(size=MOST_IN_A_BATCH, only_waiting=True)
    return None


def _may_tell(model: ResourceModel, bound: BoundTrigger, kind: HookKind) -> bool:
    """Return whether a record of *model*, which may be of a subclass, has such a hook."""
    owns = (within.triggers.get(bound.key, bound) for within in models_within(model))
    return any(kind in own.hooks for own in owns)


def _subject(
    bound: BoundTrigger,
    identity: Identity,
    record: object,
    state: str,
    version: int,
    *,
    args: dict[str, Any] | None,
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

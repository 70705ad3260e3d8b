"""One attempt of an action on a record."""

from __future__ import annotations

import contextvars
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from statejobs.declare.context import AsyncJobContext, JobContext
from statejobs.machine.guard import Guard
from statejobs.record.ledger import WAKE, ledger_of
from statejobs.record.loading import with_loading
from statejobs.record.walk import run_async
from statejobs.runner.port import Claim, Commit
from statejobs.runner.undone import ours
from statejobs.store.engines.lazy_begin import in_transaction
from statejobs.store.store import Store
from statejobs.values.clock import Sources
from statejobs.values.outcome import Outcome
from statejobs.values.unrun import ran
from statejobs.work.notes import JobNotes
from statejobs.work.outcomes import (
    IsStale,
    identified,
    is_writing,
    outcomes,
    warn_of_long_transaction,
)
from statejobs.work.records.changes import own_changes
from statejobs.work.records.deletion import blaming_the_action, delete_or_refuse
from statejobs.work.records.hold import Hold
from statejobs.work.records.subject import RecordSubject
from statejobs.work.records.taken_out import refuse_lost_writes
from statejobs.work.session import JobSession, session_info

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession


class RecordRun:
    """An attempt of a `def` action."""

    def __init__(
        self, store: Store, claim: Claim, sources: Sources, now: datetime, *,
        within: Session | None = None,
    ) -> None:  # fmt: skip
        """Make an attempt.

        Args:
            store: Whose database the session works on.
            claim: What is attempted.
            sources: Clock and ids of the session.
            now: When.
            within: Has the transaction of several attempts, in which the record is locked
                already; what this one writes through its own session is in a savepoint of it.
        """
        subject: RecordSubject = claim.subject
        self._claim, self._subject, self._store = claim, subject, store
        self._is_within = within is not None
        bind = store.working if within is None else within.connection()
        self._session = JobSession(bind, join_transaction_mode="create_savepoint")
        self._session.info.update(session_info(sources, claim.job))
        prepare(self._session, subject.record, subject.bound.action.name)
        self._hold = Hold([subject])
        if within is None:
            self._session.with_begin = store.with_begin(claim.policy.timeout)
            self._session.on_begin = self._hold
        notes = JobNotes(store, claim, sources.clock, self._is_writing)
        self._ctx = JobContext(
            session=self._session, job=claim.job, now=now, cancel=claim.signal, notes=notes
        )

    def call(self) -> Outcome:
        """Run guards and body in a context of its own; every exception becomes an outcome."""
        return contextvars.copy_context().run(self._call)

    def own_changes(self) -> dict[str, Any] | None:
        """Return the changed columns of the record, when the session wrote nothing else."""
        bound = self._subject.bound
        if bound.action.is_atomic or bound.deletes or self._has_written():
            return None
        return own_changes(self._session, self._subject.record, self._subject.model)

    def finish(self, commit: Commit) -> None:
        """Call *commit* with the session."""
        self._session.allow_commit()
        warn_of_long_transaction(self._claim, self._open_connection())
        _finish(self._session, self._hold, self._subject, commit)

    def keep(self, within: Session) -> dict[str, Any]:
        """Let what the body wrote stay in the transaction of *within*.

        Returns:
            The changed columns of the record, which are still to be written with its move.
        """
        delete_or_refuse(self._session, None, [self._subject])
        changes = own_changes(self._session, self._subject.record, self._subject.model)
        if changes is None:
            refuse_lost_writes(self._session, [self._subject])
            self._session.flush()
        if self._session.was_used:
            woken = self._session.info.pop(WAKE, set())
            within.info.setdefault(WAKE, set()).update(woken)  # by the commit, not by the release
            self._session.allow_commit()
            self._session.commit()
        return changes or {}

    def close(self) -> None:
        """Roll back what was not committed, and give the connection back."""
        if self._claim.is_abandoned:
            return  # its thread still uses the session; what it writes is never committed
        ledger_of(self._subject.record).running = None
        self._session.close()

    def _call(self) -> Outcome:
        action, record = self._subject.bound.action, self._subject.record
        with identified(self._claim), outcomes() as ended:
            if action.is_atomic and not self._is_within:
                self._hold.load(self._session)
            _check_guards(self._subject)
            args = checked_arguments(self._subject, self._claim)
            done = action.body(record, self._ctx, **args)
            ran(done, "action", action.name)
            self._session.check_kept()
        return self._hold.outcome or ended.outcome

    def _is_writing(self) -> bool:
        return self._is_within or self._has_written()

    def _has_written(self) -> bool:
        return self._session.was_used and self._open_connection() is not None

    def _open_connection(self) -> Connection | None:
        connection = self._session.connection()
        return connection if in_transaction(connection) else None


class AsyncRecordRun:
    """An attempt of an `async def` action."""

    def __init__(
        self, store: Store, engine: AsyncEngine, claim: Claim, sources: Sources, now: datetime
    ) -> None:
        from sqlalchemy.ext.asyncio import AsyncSession  # noqa: PLC0415 - needs the async extra

        subject: RecordSubject = claim.subject
        self._claim, self._subject = claim, subject
        self._session: AsyncSession = AsyncSession(
            engine, sync_session_class=JobSession, autoflush=False, expire_on_commit=False
        )
        self._hold = Hold([subject])
        sync: Any = self._session.sync_session
        sync.with_begin = store.with_begin(claim.policy.timeout)
        sync.on_begin = self._hold
        sync.info.update(session_info(sources, claim.job))
        prepare(sync, subject.record, subject.bound.action.name)
        notes = JobNotes(store, claim, sources.clock, lambda: is_writing(sync))
        self._ctx = AsyncJobContext(
            session=self._session, job=claim.job, now=now, cancel=claim.signal, notes=notes
        )

    async def call(self) -> Outcome:
        """Run guards and body; every exception becomes an outcome."""
        action, record = self._subject.bound.action, self._subject.record
        with identified(self._claim), outcomes() as ended:
            if action.is_atomic:
                await self._session.run_sync(self._hold.load)
            await self._load_relations()
            if action.guards:
                await with_loading(_check_guards, self._subject)
            args = checked_arguments(self._subject, self._claim)
            await run_async(action, record, self._ctx, **args)
            sync: Any = self._session.sync_session
            sync.check_kept()
        return self._hold.outcome or ended.outcome

    def own_changes(self) -> dict[str, Any] | None:
        """Return the changed columns of the record, when the session ran no statement."""
        sync: Any = self._session.sync_session
        bound = self._subject.bound
        if bound.action.is_atomic or bound.deletes or sync.was_used:
            return None
        return own_changes(sync, self._subject.record, self._subject.model)

    async def finish(self, commit: Commit) -> None:
        """Call *commit* with the sync face of the session."""
        sync: Any = self._session.sync_session
        sync.allow_commit()
        await self._session.run_sync(_finish, self._hold, self._subject, commit)

    async def close(self) -> None:
        """Roll back what was not committed, and give the connection back."""
        ledger_of(self._subject.record).running = None
        await self._session.close()

    async def _load_relations(self) -> None:
        """Load what a touch of the record could not load here."""
        names = self._subject.model.eager_relations
        if names:
            with ours():
                await self._session.refresh(self._subject.record, names)


def _finish(session: Session, hold: Hold, subject: RecordSubject, commit: Commit) -> None:
    with blaming_the_action(session, hold, [subject]):
        delete_or_refuse(session, hold, [subject])
        refuse_lost_writes(session, [subject])
        commit(session)


def prepare(session: Session, record: Any, action: str) -> None:
    """Hand *record* to the session of an action that will run on it."""
    session.add(record)
    ledger_of(record).running = action


def _check_guards(subject: RecordSubject) -> None:
    if (reason := stale_reason(subject)) is not None:
        raise IsStale(reason)


def stale_reason(subject: RecordSubject) -> str | None:
    """Return why a guard says no to the start of the action; None when none does."""
    for guard in map(Guard.of, subject.bound.action.guards):
        if not guard.holds(subject.record):
            return guard.reason
    return None


def checked_arguments(subject: RecordSubject, claim: Claim) -> dict[str, Any]:
    """Return the stored arguments of a job, as its action takes them.

    A second run gets its own, whatever the first did to them.
    """
    taken, subject.args = subject.args, None
    if taken is not None:
        return taken
    return subject.bound.action.signature.decode(claim.job.args, subject.bound.options.upcast)

"""One call of an action for many records, and the work port of such calls."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from statejobs.acting import acting_for_job
from statejobs.declare.chunk import ChunkContext
from statejobs.record.ledger import ledger_of
from statejobs.record.model import ResourceModel
from statejobs.runner.port import ChunkRun as Call
from statejobs.runner.port import Claim, Ending
from statejobs.store.engines.lazy_begin import in_transaction
from statejobs.store.store import Store
from statejobs.values.clock import Sources
from statejobs.values.outcome import Complete, Outcome, Stale
from statejobs.values.unrun import ran
from statejobs.work.outcomes import outcomes, warn_of_long_transaction
from statejobs.work.records.attempt import checked_arguments, prepare, stale_reason
from statejobs.work.records.changes import own_changes_of_many
from statejobs.work.records.deletion import blaming_the_action, delete_or_refuse
from statejobs.work.records.hold import Hold
from statejobs.work.records.subject import RecordSubject
from statejobs.work.records.taken_out import refuse_lost_writes
from statejobs.work.session import JobSession, session_info

R = TypeVar("R")


class ChunkRun:
    """One call of a chunk action."""

    def __init__(
        self, store: Store, claims: Sequence[Claim], sources: Sources, now: datetime
    ) -> None:
        self._store, self._claims = store, claims
        subject: RecordSubject = claims[0].subject
        self._model, self._action = subject.model, subject.bound.action
        self._session = JobSession(store.working)
        self._session.with_begin = store.with_begin(claims[0].policy.timeout)
        self._hold = Hold([claim.subject for claim in claims])
        self._session.on_begin = self._hold
        self._stale: dict[Claim, Stale] = {}
        self._ctx = self._context(claims, now)
        self._session.info.update(session_info(sources))  # of many jobs: history names none
        for claim in claims:
            prepare(self._session, claim.subject.record, self._action.name)

    def call(self) -> Outcome:
        """Run guards and body in a context of its own; every exception becomes an outcome."""
        return contextvars.copy_context().run(self._call)

    def ending(self, claim: Claim, called: Outcome) -> Ending:
        """Return how the attempt of one claim ends, after a call that ended as *called*."""
        return Ending(claim, self._outcome(claim, called), {})

    def successes(self) -> list[Ending] | None:
        """Return those that complete, when the session is to write nothing but their columns."""
        completing = self._completing()
        for claim in self._claims:
            if claim not in completing and claim.subject.record in self._session:
                self._session.expire(claim.subject.record)  # what it changed is not to be kept
        if self._claims[0].policy.deletes:
            return None
        if self._session.was_used and in_transaction(self._session.connection()):
            return None
        records = [claim.subject.record for claim in completing]
        changes = own_changes_of_many(self._session, records, self._model)
        if changes is None:
            return None
        return [
            Ending(claim, Complete(), own) for claim, own in zip(completing, changes, strict=True)
        ]

    def finish(self, commit: Callable[[Session], R]) -> R:
        """Return what *commit* returns for the session, which has locked the records."""
        self._session.allow_commit()
        connection = self._session.connection()
        warn_of_long_transaction(self._claims[0], connection)
        self._hold.ensure(connection)
        subjects = [claim.subject for claim in self._completing()]
        with blaming_the_action(self._session, self._hold, subjects):
            delete_or_refuse(self._session, self._hold, subjects)
            refuse_lost_writes(self._session, subjects)
            return commit(self._session)

    def close(self) -> None:
        """Roll back what was not committed, and give the connection back."""
        if self._claims[0].is_abandoned:
            return  # its thread still uses the session; what it writes is never committed
        for claim in self._claims:
            ledger_of(claim.subject.record).running = None
        self._session.close()

    def _completing(self) -> list[Claim]:
        return [c for c in self._claims if isinstance(self._outcome(c, Complete()), Complete)]

    def _outcome(self, claim: Claim, called: Outcome) -> Outcome:
        if claim in self._stale:
            return self._stale[claim]
        is_done = isinstance(called, Complete)
        return self._ctx.outcome_of(claim.subject.record) if is_done else called

    def _call(self) -> Outcome:
        with _identified(self._claims), outcomes() as ended:
            for claim in self._claims:
                reason = stale_reason(claim.subject)
                if reason is not None:
                    self._stale[claim] = Stale(reason)
                else:
                    checked_arguments(claim.subject, claim)  # left by an action that took some
            called = [claim for claim in self._claims if claim not in self._stale]
            self._ctx = self._context(called, self._ctx.now)
            if called:
                records = [claim.subject.record for claim in called]
                ran(self._action.body(records, self._ctx), "action", self._action.name)
                self._session.check_kept()
        return self._hold.outcome or ended.outcome

    def _context(self, claims: Sequence[Claim], now: datetime) -> ChunkContext:
        return ChunkContext(
            session=self._session,
            records=[claim.subject.record for claim in claims],
            jobs=[claim.job for claim in claims],
            now=now,
            cancels=[claim.signal for claim in claims],
        )


class RecordChunks:
    """The part of the work port for calls that take many records."""

    def __init__(self, store: Store, sources: Sources) -> None:
        self.store, self.sources = store, sources

    def open_chunk(self, claims: Sequence[Claim], now: datetime) -> Call:
        """Return a call for *claims*."""
        return ChunkRun(self.store, claims, self.sources, now)

    def reload(self, claims: Sequence[Claim]) -> frozenset[int]:
        """Load the records again; return the ids of jobs whose record is where it was left."""
        model: ResourceModel = claims[0].subject.model
        identities = [claim.subject.identity for claim in claims]
        is_ours = model.records.are(identities, self.store.dialect)
        with Session(self.store.working, autoflush=False, expire_on_commit=False) as session:
            records: list[Any] = [*session.scalars(select(model.cls).where(is_ours)).unique()]
            key_of = model.mapper.primary_key_from_instance
            found = {tuple(key_of(record)): record for record in records}
            session.expunge_all()
        standing = set()
        for claim in claims:
            subject: RecordSubject = claim.subject
            record = found.get(subject.identity)
            if record is None:
                continue
            left_at = (subject.state, subject.version)
            if (model.kernel.state_of(record), record.state_version) == left_at:
                subject.record = record
                standing.add(claim.job.id)
        return frozenset(standing)


def _identified(claims: Sequence[Claim]) -> AbstractContextManager[None]:
    """Act for the tenant of the jobs, and for their actor when they have one and the same."""
    first = claims[0].job
    is_one = all(claim.job.actor == first.actor for claim in claims)
    return acting_for_job(first.actor if is_one else None, first.tenant)

"""One attempt of an action on a record, or on as many as share the call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from statejobs.declare.chunk import ChunkContext
from statejobs.record.change import ChangeContext, apply_changes
from statejobs.record.ledger import Ledger, ledger_of, value_of
from statejobs.runner.port import Claim, Ending
from statejobs.runner.undone import ours
from statejobs.store.store import Store
from statejobs.values.clock import Sources
from statejobs.values.opened import Opened
from statejobs.values.outcome import Complete, Outcome, Stale
from statejobs.work.face import AsyncFace, Face
from statejobs.work.notes import JobNotes
from statejobs.work.outcomes import warn_of_long_transaction
from statejobs.work.records.changed import with_changes
from statejobs.work.records.changes import own_changes
from statejobs.work.records.deletion import blaming_the_action, delete_or_refuse
from statejobs.work.records.dropped import Dropped
from statejobs.work.records.following import next_jobs
from statejobs.work.records.hold import Hold
from statejobs.work.records.related import load_related
from statejobs.work.records.subject import RecordSubject
from statejobs.work.records.taken_out import refuse_lost_writes
from statejobs.work.session import JobSession

R = TypeVar("R")


class RecordAttempt:
    """An attempt of the action of *claims*, which are of one kind."""

    kind = "action"
    variable = "self"

    __slots__ = (
        "_action",
        "_completing",
        "_ctx",
        "_dropped",
        "_face",
        "_hold",
        "_ledgers",
        "_loads_actor",
        "_model",
        "_opened",
        "_session",
        "_sources",
        "_stale",
        "actor",
        "claims",
        "concludes",
        "is_abandoned",
        "may_load",
        "name",
        "needs_session",
    )

    def __init__(
        self,
        face: Face | AsyncFace,
        claims: Sequence[Claim],
        *,
        hold: Hold | None,
        store: Store,
        sources: Sources,
        now: datetime,
        opened: Opened,
        dropped: Dropped,
    ) -> None:
        """Make an attempt.

        Args:
            face: The session.
            claims: What is attempted.
            hold: Locks the records when the session begins; None where they are locked already.
            store: Of the session.
            sources: The clock.
            now: When.
            opened: What the worker keeps open.
            dropped: Tells of what the body returns.
        """
        self.claims = claims
        self.is_abandoned = self.needs_session = False
        claim = claims[0]
        subject: RecordSubject = claim.subject
        action = subject.bound.action
        self._model = subject.model
        self._face = face
        self._hold = hold
        self._action = action
        self._sources = sources
        session: Any = face.sync
        self._session = session
        self.concludes = bool(subject.bound.runs) or len(action.targets) > 1
        self.name = action.name
        self._loads_actor = face.is_async and self._model.actors.codec is not None
        self.may_load = bool(
            action.is_atomic
            or action.guards
            or self._model.eager_relations
            or self._loads_actor
            or subject.bound.options.load
        )
        self._stale: dict[Claim, Stale] = {}
        self._completing: list[RecordSubject] = []
        self._ledgers: list[Ledger] = []
        self._opened = opened
        self._dropped = dropped
        self._begin()
        self.actor = claim.job.actor
        if action.is_chunk:
            if any(one.job.actor != self.actor for one in claims):
                self.actor = None
            self._ctx: Any = self._chunk_context(claims, now)
            return
        is_writing = session.is_writing if hold is not None else _always
        self._ctx = face.context(
            session=face.session,
            job=claim.job,
            now=now,
            cancel=claim.signal,
            open_notes=partial(JobNotes, store, claim, sources.clock, is_writing),
            lifespan=opened.value,
            actors=self._model.actors,
        )

    def call(self) -> Any:
        """Run guards and body; every exception becomes an outcome."""
        return self._face.call(self)

    def prepare(self) -> Callable[[], Any] | Stale | None:
        """Lock and load what the body needs, ask the guards, and return its call.

        Raises:
            RecordMoved: The record is no longer where its claim left it.
            UndoneError: The database could not lock it, or load what belongs to it.
        """
        action = self._action
        if action.is_chunk:
            return self._prepare_many()
        (claim,) = self.claims
        subject: RecordSubject = claim.subject
        if action.is_atomic and self._hold is not None:
            self._hold.load(self._session)
        if subject.bound.options.load is not None:
            load_related(self._session, [subject], self._hold)
        elif self._face.is_async and self._model.eager_relations:
            # a touch could not load them
            with ours():
                self._session.refresh(subject.record, self._model.eager_relations)
        if action.guards and (reason := _why_stale(subject)) is not None:
            return Stale(reason)
        if self._loads_actor:
            _ = self._ctx.actor  # likewise
        args = subject.take_args(claim.job.args)
        run = partial(action.body, subject.record, self._ctx, **args)
        if not action.changes:
            return run
        return with_changes(run, action, self._apply, is_async=self._face.is_async)

    def conclude(self, returned: object) -> None:
        """Note where the records land, and what follows there, while `args=` may still load.

        What an action with one target *returned* is dropped: its record is its result.
        """
        if returned is not None and len(self._action.targets) <= 1:
            self._dropped.tell(self.claims[0].job.key, self.name, returned)
        if not self.concludes:
            return
        target = value_of(self._action.target_of(returned))
        for claim in self.claims:
            if claim not in self._stale:
                self._land(claim, target)

    def _land(self, claim: Claim, target: str) -> None:
        subject: RecordSubject = claim.subject
        subject.target = target
        subject.promised = next_jobs(
            subject.model,
            subject.bound.runs.get(target, ()),
            subject.record,
            claim.job,
            now=self._sources.clock.now(),
            ids=self._sources.ids,
        )

    def endings(self, called: Outcome) -> list[Ending]:
        """Return how the attempt of each claim ends, after a call that ended as *called*."""
        claims = self.claims
        if self.is_abandoned:
            # its thread goes on, and says no more how any of them ends
            return [Ending(claim, called) for claim in claims]
        if not isinstance(called, Complete):
            return [Ending(claim, self._stale.get(claim, called)) for claim in claims]
        outcomes = self._outcomes() if self._action.is_chunk else [called]
        for claim, outcome in zip(claims, outcomes, strict=True):
            if isinstance(outcome, Complete):
                self._completing.append(claim.subject)
            elif claim.subject.record in self._session:
                # what it changed is not to be kept
                self._session.expire(claim.subject.record)
        changes = iter(self._own_changes())
        return [
            Ending(claim, outcome, next(changes, {}))
            if isinstance(outcome, Complete)
            else Ending(claim, outcome)
            for claim, outcome in zip(claims, outcomes, strict=True)
        ]

    def in_session(self, finish: Callable[[JobSession], R]) -> Any:
        """Return what *finish* returns for the session, where it may do I/O."""
        return self._face.run(partial(self._finish, finish))

    def close(self) -> Any:
        """Roll back what was not committed, and give the connection back."""
        if self.is_abandoned:
            return None  # its thread still uses the session; what it writes is never committed
        for ledger in self._ledgers:
            ledger.running = None
        return self._face.close()

    def _begin(self) -> None:
        """Bring the records into the session, and let their writes be known as the action's."""
        for claim in self.claims:
            self._session.add(claim.subject.record)
            ledger = ledger_of(claim.subject.record)
            ledger.running = self.name
            self._ledgers.append(ledger)

    def _prepare_many(self) -> Callable[[], Any] | None:
        subjects: list[RecordSubject] = [claim.subject for claim in self.claims]
        if subjects[0].bound.options.load is not None:
            load_related(self._session, subjects, self._hold)
        for claim in self.claims:
            subject: RecordSubject = claim.subject
            reason = _why_stale(subject)
            if reason is not None:
                self._stale[claim] = Stale(reason)
            else:
                subject.take_args(claim.job.args)  # left by an action that took some
        called = [claim for claim in self.claims if claim not in self._stale]
        self._ctx = self._chunk_context(called, self._ctx.now)
        records = [claim.subject.record for claim in called]
        if not called:
            return None
        run = partial(self._action.body, records, self._ctx)
        if not self._action.changes:
            return run
        return with_changes(run, self._action, self._apply, is_async=False)

    def _apply(self) -> None:
        """Make the changes of the action in the records that complete."""
        now = self._sources.clock.now()
        for claim in self.claims:
            if claim in self._stale:
                continue
            record, job = claim.subject.record, claim.job
            if self._action.is_chunk and not isinstance(
                self._ctx.outcome_of(record), Complete
            ):
                continue
            actor = self._model.actors.load(self._session, job.actor)
            ctx = ChangeContext(now=now, actor=actor, tenant=job.tenant)
            apply_changes(self._action.changes, record, ctx)

    def _outcomes(self) -> list[Outcome]:
        stale = self._stale
        outcome_of = self._ctx.outcome_of
        return [stale.get(one) or outcome_of(one.subject.record) for one in self.claims]

    def _own_changes(self) -> list[dict[str, Any]]:
        """Return what is to be written with each move, unless the session has to write more."""
        session = self._session
        action = self._action
        changes = None
        if not (
            action.is_atomic
            or action.deletes
            or (session.was_used and session.is_writing())
        ):
            records = [subject.record for subject in self._completing]
            changes = own_changes(session, records, self._model)
            if changes is not None and not action.targets and any(changes):
                changes = None  # no move takes them along
        self.needs_session = changes is None
        return changes or []

    def _finish(self, finish: Callable[[JobSession], R], session: JobSession) -> R:
        session.allow_commit()
        if session.is_writing():
            warn_of_long_transaction(self.claims[0], session.seconds_open())
        if self._action.is_chunk and self._hold is not None:
            self._hold.ensure(session.connection())
        with blaming_the_action(session, self._hold, self._completing):
            delete_or_refuse(session, self._hold, self._completing)
            refuse_lost_writes(session, self._completing)
            return finish(session)

    def _chunk_context(self, claims: Sequence[Claim], now: datetime) -> ChunkContext:
        return ChunkContext(
            session=self._face.session,
            records=[claim.subject.record for claim in claims],
            jobs=[claim.job for claim in claims],
            now=now,
            cancels=[claim.signal for claim in claims],
            lifespan=self._opened.value,
        )


def _always() -> bool:
    return True


def _why_stale(subject: RecordSubject) -> str | None:
    """Return why a guard says no to the start of the action; None when none does."""
    for guard in subject.bound.action.checks:
        if not guard.holds(subject.record):
            return guard.reason
    return None

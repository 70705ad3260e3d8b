"""Many atomic actions in one transaction, each as if it were alone, and their outcomes with them.

An action writes through a session of its own, which opens a savepoint when it is used; what a
body that fails wrote is rolled back to there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from statejobs.runner.deadline import end_copy_of
from statejobs.runner.port import ChunkRun, Claim, Ending
from statejobs.runner.undone import ours
from statejobs.store.engines.lazy_begin import begin_now, impose_limits
from statejobs.store.store import Store
from statejobs.values.clock import Sources
from statejobs.values.outcome import Complete, Outcome, Superseded
from statejobs.work.outcomes import outcomes, warn_of_long_transaction
from statejobs.work.records.attempt import RecordRun
from statejobs.work.records.chunk_attempt import RecordChunks
from statejobs.work.records.deletion import blaming_the_action
from statejobs.work.records.hold import load_standing
from statejobs.work.records.subject import RecordSubject
from statejobs.work.session import JobSession

R = TypeVar("R")

MOST_IN_A_BATCH = 100
"""Atomic actions that share a transaction at most."""


class AtomicRun:
    """A batch of attempts of one atomic action."""

    def __init__(
        self, store: Store, claims: Sequence[Claim], sources: Sources, now: datetime
    ) -> None:
        self._store, self._claims, self._sources, self._now = store, claims, sources, now
        self._session = JobSession(store.working)
        self._session.with_begin = store.with_begin(claims[0].policy.timeout)
        self._endings: dict[Claim, Ending] = {}

    def call(self) -> Outcome:
        """Lock and load the records, and run guards and body of each.

        Every exception becomes an outcome.

        Returns:
            That all have been run; or what kept the batch as a whole from it.
        """
        with outcomes() as ended:
            with ours():
                connection = self._session.connection()
                begin_now(connection)
                standing = load_standing(self._session, [claim.subject for claim in self._claims])
                impose_limits(connection)
            self._session.expunge_all()  # each goes into a session of its own
            for claim in self._claims:
                subject: RecordSubject = claim.subject
                if subject.identity in standing:
                    subject.record = standing[subject.identity]
                    self._endings[claim] = self._attempt(claim)
                else:
                    outcome = Superseded("the record was moved away")
                    self._endings[claim] = Ending(claim, outcome, {})
        return ended.outcome

    def ending(self, claim: Claim, called: Outcome) -> Ending:
        """Return how the attempt of one claim ends, after a call that ended as *called*."""
        return self._endings[claim] if isinstance(called, Complete) else Ending(claim, called, {})

    def successes(self) -> None:
        """Return that none can be committed elsewhere: what they wrote is in this transaction."""

    def finish(self, commit: Callable[[Session], R]) -> R:
        """Return what *commit* returns for the session of the transaction."""
        self._session.allow_commit()
        warn_of_long_transaction(self._claims[-1], self._session.connection())
        subjects = [claim.subject for claim in self._claims]
        with blaming_the_action(self._session, None, subjects):
            return commit(self._session)

    def close(self) -> None:
        """Roll back what was not committed, and give the connection back."""
        self._session.close()

    def _attempt(self, claim: Claim) -> Ending:
        clock, process = self._sources.clock, os.getpid()
        claim.began = clock.monotonic()
        run = RecordRun(self._store, claim, self._sources, self._now, within=self._session)
        changes: Mapping[str, Any] = {}
        try:
            outcome = run.call()
            end_copy_of(process, claim)
            claim.duration = clock.monotonic() - claim.began
            if isinstance(outcome, Complete):
                with outcomes() as ended:
                    changes = run.keep(self._session)
                outcome = ended.outcome
        finally:
            run.close()
        return Ending(claim, outcome, changes)


class AtomicBatches(RecordChunks):
    """The part of the work port for attempts that share a transaction."""

    def open_chunk(self, claims: Sequence[Claim], now: datetime) -> ChunkRun:
        """Return a batch of *claims*."""
        return AtomicRun(self.store, claims, self.sources, now)

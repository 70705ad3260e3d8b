"""Commits how attempts end, in one of three ways: together with others, alone, in a session."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from statejobs.errors import RecordHiddenError, RowRefusedError
from statejobs.events import JobEnded, JobLate
from statejobs.runner.answers import NotWritten
from statejobs.runner.crash_points import CrashPoint, Reach, live_on
from statejobs.runner.ended import Ended
from statejobs.runner.port import Claim, Ending, Phase, Works
from statejobs.runner.refused import Aside, Refusal, Refused, refusal_of, tell_of
from statejobs.runner.retries import Retries
from statejobs.runner.steps import Settled, Steps
from statejobs.runner.together import finish_together
from statejobs.runner.undone import UndoneError, give_back, ours, passes
from statejobs.store.engines.lazy_begin import begin_now
from statejobs.store.faults import Fault, fault_of, is_away, may_last, words_of
from statejobs.store.store import Store
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.values.failure import describe_failure
from statejobs.values.job import JobOutcome, JobState
from statejobs.values.lifecycle import counted
from statejobs.values.outcome import (
    NOT_BEGUN,
    Complete,
    Fail,
    Late,
    Outcome,
    Release,
)

log = logging.getLogger("statejobs.runner")


class Finisher:
    """Commits outcomes, and tells of them."""

    def __init__(
        self,
        store: Store,
        works: Works,
        *,
        lease: timedelta,
        sources: Sources,
        telemetry: Telemetry,
        reach: Reach = live_on,
    ) -> None:
        self.steps = Steps(store, sources, reach)
        self._retries = Retries(store, lease=lease, sources=sources)
        self._refused = Refused(store, works, self.steps, sources)
        self._store = store
        self._sources = sources
        self._telemetry = telemetry
        self._reach = reach

    def finish(self, ending: Ending) -> Ended:
        """Record how an attempt ended whose session, if it had one, is rolled back.

        What there is to write is known: while the database cannot, it is asked again, for as long
        as the job may be ours. Whatever else the commit of a success meets ends the attempt.
        """
        if isinstance(ending.outcome, Late):
            return self._end_of_unsure(ending) or self.late(ending.claim)
        if isinstance(ending.outcome, Complete):
            ended, left = self.finish_many([ending])
            if not left:
                return ended[0]
        alone = self._finish_alone(ending)
        assert alone is not None  # noqa: S101 - it waits for every lock
        return alone

    def finish_many(
        self, endings: Sequence[Ending]
    ) -> tuple[list[Ended], list[Ending]]:
        """Commit those of *endings*, all successes, that can be at once, with few statements.

        Returns:
            How those ended that did, and those that are left for `finish`.
        """
        begun = [ending for ending in endings if ending.claim.advance(Phase.FINISHING)]
        self._reach(CrashPoint.FINISH_BEFORE_COMMIT)
        finished = finish_together(self._store, begun, self._sources.clock.now())
        ended = []
        left = []
        for ending in endings:
            if ending.claim.job.id in finished:
                self._note_settled(ending.claim)
                ended.append(
                    self.tell(
                        ending.claim,
                        "complete",
                        JobState.COMPLETED,
                        job_outcome=JobOutcome.COMPLETED,
                    )
                )
            else:
                left.append(ending)
        return ended, left

    def try_finish(self, ending: Ending, *, patience: timedelta) -> Ended | None:
        """As `finish`, but return None when a lock was not given within *patience*."""
        return self._finish_alone(ending, patience=patience)

    def finish_within(self, session: Session, endings: Sequence[Ending]) -> list[Ended]:
        """Commit what one call wrote, and how each of its claims ends, together or not at all.

        Raises:
            NotWritten: A job is no longer ours, or a record no longer where its claim left it; the
                caller rolls back.
            UndoneError: A fault of the database that passes; likewise.
        """
        endings = [
            replace(end, outcome=self._retries.judge(end.claim, end.outcome))
            for end in endings
        ]
        try:
            for ending in endings:
                _begin(ending.claim)
            with ours():
                connection = session.connection()
                begin_now(connection)
            settled = self.steps.take_within(connection, endings, flush=session.flush)
            with ours():
                self._reach(CrashPoint.FINISH_BEFORE_COMMIT)
                _commit(session, endings)
        except BaseException:
            for ending in endings:
                ending.claim.advance(Phase.HELD)
            raise
        for ending in endings:
            ending.claim.advance(Phase.SETTLED)
        self._reach(CrashPoint.FINISHED)
        if any(how.wakes for how in settled):
            self._store.wake()
        return [
            self._tell_of(end.claim, how)
            for end, how in zip(endings, settled, strict=True)
        ]

    def release(self, claim: Claim) -> Ended:
        """Give a job back, running or waiting for a slot; its attempt does not count."""
        claim.is_kept = False  # a stop does not wait for a database that is away
        outcome = Release() if claim.has_begun else Release(NOT_BEGUN)
        ended = self.finish(Ending(claim, outcome))
        claim.signal.set("the worker stops")
        return ended

    def late(self, claim: Claim) -> Ended:
        """Tell that a result was dropped, and return so."""
        log.warning(
            "late result of job %s, attempt %s: dropped, its writes rolled back",
            claim.job.id,
            claim.job.attempt,
        )
        self._telemetry.emit(JobLate, job=claim.job)
        return Ended(job=claim.job, outcome="late", state=None)

    def tell(
        self,
        claim: Claim,
        outcome: str,
        state: JobState,
        *,
        is_overtaken: bool = False,
        **how: Any,
    ) -> Ended:
        """Tell subscribers that an attempt ended, and return how: see `Ended`."""
        ended = Ended(job=claim.job, outcome=outcome, state=state, **how)
        self._telemetry.emit(
            JobEnded,
            job=claim.job,
            outcome=outcome,
            state=state,
            job_outcome=ended.job_outcome,
            duration=claim.duration,
            reason=ended.reason,
            run_at=ended.run_at,
            failure=ended.failure,
            is_overtaken=is_overtaken,
            log_level=claim.policy.log_levels.get(outcome),
        )
        return ended

    def _finish_alone(
        self, ending: Ending, *, patience: timedelta | None = None
    ) -> Ended | None:
        """Finish in a transaction of its own; None when it lacks a lock after *patience*."""
        claim = ending.claim
        ending = replace(ending, outcome=self._retries.judge(claim, ending.outcome))
        since = claim.began if isinstance(ending.outcome, Release) else None
        commit = partial(self._commit_alone, ending, patience)
        try:
            return self._retries.insist(claim, commit, since=since)
        except NotWritten:
            pass
        except Exception as error:  # noqa: BLE001 - whatever the commit met ends the attempt
            if isinstance(ending.outcome, Complete):
                return self.finish(Ending(claim, outcome_after(error)))
            if (ended := self._put_aside(ending, error)) is not None:
                return ended
        return self._end_of_unsure(ending) or self.late(claim)

    def _commit_alone(self, ending: Ending, patience: timedelta | None) -> Ended | None:
        _begin(ending.claim)
        try:
            # It may hold the record while it waits, and then yields; or it waits for so long only.
            with self._store.transaction(
                yields=patience is None, lock_timeout=patience
            ) as connection:
                settled = self.steps.take(connection, ending)
                self._reach(CrashPoint.FINISH_BEFORE_COMMIT)
        except DBAPIError as error:
            is_locked = fault_of(error) is Fault.LOCKED and not may_last(error)
            if patience is not None and is_locked:
                return None
            raise
        self._note_settled(ending.claim)
        if settled.wakes:
            self._store.wake()
        return self._tell_of(ending.claim, settled)

    def _put_aside(self, ending: Ending, error: Exception) -> Ended | None:
        """End an attempt whose record the database does not let go; None when it stays as it is."""
        claim = ending.claim
        now = self._sources.clock.now()
        refusal = refusal_of(claim, ending.outcome, error, now, self._store.redaction)
        write = partial(self._write_aside, refusal, claim)
        try:
            aside = None if passes(error) else self._retries.insist(claim, write)
        except (SQLAlchemyError, RowRefusedError) as failed:
            error = failed
            aside = None
        if aside is None:
            log.warning(
                "job %s: no outcome recorded: %s", claim.job.id, words_of(error)
            )
            return None
        self._note_settled(claim)
        tell_of(refusal)
        return self.tell(
            claim,
            "discard" if refusal.is_last else "fail",
            aside.state,
            job_outcome=aside.job_outcome,
            reason=aside.reason,
            run_at=aside.run_at,
            failure=refusal.failure,
        )

    def _write_aside(self, refusal: Refusal, claim: Claim) -> Aside | None:
        with self._store.transaction(yields=True) as connection:
            return self._refused.write(connection, refusal, claim, waits=True)

    def _end_of_unsure(self, ending: Ending) -> Ended | None:
        """Tell of an end whose answer was lost, if it landed; return it."""
        claim = ending.claim
        outcome = ending.outcome
        found = self._retries.find_unsure(claim)
        if found is None:
            return None
        if found == (JobState.COMPLETED, claim.job.attempt):
            outcome = Complete()
        if isinstance(outcome, Late):
            return None
        settlement = self.steps.settling.settle(claim, counted(claim.job, outcome))
        if found != (settlement.state, settlement.attempt):
            return None
        claim.advance(Phase.SETTLED)
        return self._tell_of(claim, Settled(outcome, settlement, settlement.state))

    def _tell_of(self, claim: Claim, settled: Settled) -> Ended:
        settlement = settled.settlement
        outcome = settled.outcome
        failed = outcome if isinstance(outcome, Fail) else None
        if settlement.edge not in {"fail", "discard"}:
            failed = None
        return self.tell(
            claim,
            settlement.edge,
            settled.state,
            job_outcome=settled.job_outcome,
            reason=settlement.reason,
            run_at=settlement.run_at,
            is_overtaken=settlement.is_overtaken,
            failure=failed.failure if failed else None,
            error=failed.error if failed else None,
        )

    def _note_settled(self, claim: Claim) -> None:
        claim.advance(Phase.SETTLED)
        self._reach(CrashPoint.FINISHED)


def outcome_after(error: Exception) -> Outcome:
    """Return the outcome of an attempt whose commit failed."""
    match error:
        case NotWritten():
            return error.outcome
        case UndoneError() | RecordHiddenError():
            return give_back(error)
        case _:
            return Fail(failure=describe_failure(error), error=error)


def _begin(claim: Claim) -> None:
    if not claim.advance(Phase.FINISHING):
        raise NotWritten(Late())


def _commit(session: Session, endings: Sequence[Ending]) -> None:
    try:
        session.commit()
    except SQLAlchemyError as error:
        for ending in endings:
            ending.claim.is_unsure |= is_away(error)
        raise

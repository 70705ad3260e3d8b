"""Commits how attempts end: always record, then job, then history, in one fenced transaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from statejobs.errors import RecordKeptError, RowRefusedError
from statejobs.runner.ended import Ended
from statejobs.runner.points import CrashPoint, Reach, live_on
from statejobs.runner.port import Claim, Ending, MovedAway, Phase, RecordHidden, Work
from statejobs.runner.recorder import LateResult, Recorder
from statejobs.runner.refused import Aside, Refused, refusal_of, tell_of
from statejobs.runner.retries import Retries
from statejobs.runner.undone import UndoneError, give_back, ours, passes
from statejobs.store.engines.lazy_begin import begin_now
from statejobs.store.faults import Fault, fault_of, is_away, may_last, words_of
from statejobs.store.store import Store
from statejobs.telemetry import Event, Telemetry
from statejobs.values.clock import Sources
from statejobs.values.failure import Failure, describe_failure
from statejobs.values.job import JobState
from statejobs.values.lifecycle import Landing, Settlement, counted
from statejobs.values.outcome import (
    NOT_BEGUN,
    Complete,
    Fail,
    Late,
    Outcome,
    Release,
    Superseded,
)

log = logging.getLogger("statejobs.runner")


class Finisher:
    """Commits outcomes."""

    def __init__(
        self,
        store: Store,
        work: Work,
        *,
        lease: timedelta,
        sources: Sources,
        telemetry: Telemetry,
        reach: Reach = live_on,
    ) -> None:
        self.recorder = Recorder(store, work, sources)
        self._retries = Retries(store, lease=lease, sources=sources)
        self._refused = Refused(store, work, self.recorder, sources)
        self._store, self._work = store, work
        self._sources, self._telemetry, self._reach = sources, telemetry, reach

    def finish_within(self, session: Session, endings: Sequence[Ending]) -> list[Ended]:
        """Commit what one call wrote, and how each of its claims ends, together or not at all.

        Raises:
            LateResult: A job is no longer ours; the caller rolls back.
            MovedAway: A record is no longer where its claim left it; likewise.
            UndoneError: A fault of the database that passes; likewise.
        """
        claim = endings[0].claim
        if claim.policy.chunk is not None:
            return self.commit_chunk(session, endings)
        self.commit(session, claim)
        return [self.ended(claim, "complete", JobState.COMPLETED)]

    def commit(self, session: Session, claim: Claim) -> None:
        """Commit what the body wrote, the record's move and the job's end, together or not at all.

        Raises:
            LateResult: The job is no longer ours; the caller rolls back.
            MovedAway: The record is no longer where the claim left it; likewise.
            UndoneError: A fault of the database that passes; likewise.
        """
        _begin_finish(claim)
        with ours():
            connection = session.connection()
            begin_now(connection)
        if claim.policy.deletes:
            self._flush(session)
            rests = self._land(connection, claim)
        else:  # the record is locked first, then whatever else the body changed
            rests = self._land(connection, claim)
            self._flush(session)
        with ours():
            settlement = self.recorder.settlement(claim, Complete())
            self.recorder.finish_job(connection, claim, settlement, rests)
            self._reach(CrashPoint.FINISH_BEFORE_COMMIT)
            _commit(session, [claim])
        self._is_settled(claim)

    def commit_chunk(self, session: Session, endings: Sequence[Ending]) -> list[Ended]:
        """Commit what one call wrote, and how each of its claims ends, together or not at all.

        Raises:
            LateResult: A job is no longer ours; the caller rolls back.
            MovedAway: A record is no longer where its claim left it; likewise.
            UndoneError: A fault of the database that passes; likewise.
        """
        endings = [
            replace(end, outcome=self._retries.judge(end.claim, end.outcome)) for end in endings
        ]
        claims = [end.claim for end in endings]
        try:
            for claim in claims:
                _begin_finish(claim)
            session.flush()
            with ours():
                self._reach(CrashPoint.FINISH_FLUSHED)
                begin_now(session.connection())
                settled = self.recorder.settle_chunk(session.connection(), endings)
                self._reach(CrashPoint.FINISH_BEFORE_COMMIT)
                _commit(session, claims)
        except BaseException:
            for claim in claims:
                claim.advance(Phase.HELD)
            raise
        for claim in claims:
            claim.advance(Phase.SETTLED)
        self._reach(CrashPoint.FINISHED)
        return [
            self._tell(end.claim, end.outcome, *how)
            for end, how in zip(endings, settled, strict=True)
        ]

    def finish(self, ending: Ending) -> Ended:
        """Record how an attempt ended that needs no unit of work, and tell.

        What it changed is known: while the database cannot, it is asked again. Whatever else the
        commit of a success meets ends the attempt.
        """
        claim, outcome = ending.claim, ending.outcome
        if isinstance(outcome, Late):
            return self._end_of_unsure(claim, outcome) or self.late(claim)
        if not isinstance(outcome, Complete):
            return self.conclude(claim, outcome)
        try:
            self._retries.insist(claim, lambda: self._commit_own(ending))
        except Exception as error:  # noqa: BLE001 - whatever the commit met ends the attempt
            return self.finish(Ending(claim, outcome_of(error)))
        return self.ended(claim, "complete", JobState.COMPLETED)

    def try_finish(self, success: Ending, *, patience: timedelta) -> Ended | None:
        """As `finish`, but return None when a lock was not given within *patience*."""

        def has_committed() -> bool:
            try:
                self._commit_own(success, lock_timeout=patience)
            except DBAPIError as error:
                if fault_of(error) is Fault.LOCKED and not may_last(error):
                    return False
                raise
            return True

        try:
            if not self._retries.insist(success.claim, has_committed):
                return None
        except Exception as error:  # noqa: BLE001 - whatever the commit met ends the attempt
            return self.finish(Ending(success.claim, outcome_of(error)))
        return self.ended(success.claim, "complete", JobState.COMPLETED)

    def finish_many(self, successes: Sequence[Ending]) -> tuple[list[Ended], list[Ending]]:
        """Commit those of *successes* that can be committed at once, with few statements.

        Each still ends by itself: this waits for no lock, and what it cannot finish (a record
        that moved, a job that is no longer ours, a row that someone holds, a value that the
        database refuses) is left untouched.

        Returns:
            How those ended that did, and those that are left for `finish`.
        """
        finished = self._complete_together(successes)
        ended = [
            self.ended(success.claim, "complete", JobState.COMPLETED)
            for success in successes
            if success.claim.job.id in finished
        ]
        return ended, [s for s in successes if s.claim.job.id not in finished]

    def conclude(self, claim: Claim, outcome: Outcome) -> Ended:
        """Record an outcome other than success; what the body wrote is rolled back already.

        A database that is away is asked again for as long as the job may be ours: its token tells
        whether it still is.
        """
        outcome = self._retries.judge(claim, outcome)
        since = claim.began if isinstance(outcome, Release) else None
        try:
            return self._retries.insist(
                claim, lambda: self._conclude_once(claim, outcome), since=since
            )
        except LateResult:
            pass
        except Exception as error:  # noqa: BLE001 - whatever refuses the move, the attempt has ended
            if (ended := self._put_aside(claim, outcome, error)) is not None:
                return ended
        return self._end_of_unsure(claim, outcome) or self.late(claim)

    def _put_aside(self, claim: Claim, outcome: Outcome, error: Exception) -> Ended | None:
        """End an attempt whose record the database does not let go; None when it stays as it is."""
        now, redaction = self._sources.clock.now(), self._store.redaction
        refusal = refusal_of(claim, outcome, error, now, redaction)

        def write() -> Aside | None:
            with self._store.transaction(yields=True) as connection:
                return self._refused.write(connection, refusal, claim, waits=True)

        try:
            aside = None if passes(error) else self._retries.insist(claim, write)
        except (SQLAlchemyError, RowRefusedError) as failed:
            error, aside = failed, None
        if aside is None:
            log.warning("job %s: no outcome recorded: %s", claim.job.id, words_of(error))
            return None
        self._is_settled(claim)
        tell_of(refusal)
        return self.ended(
            claim, "discard" if refusal.is_last else "fail", aside.state, reason=aside.reason,
            run_at=aside.run_at, failure=refusal.failure,
        )  # fmt: skip

    def release(self, claim: Claim) -> Ended:
        """Give a job back, running or waiting for a slot; its attempt does not count."""
        claim.is_kept = False  # a stop does not wait for a database that is away
        ended = self.conclude(claim, Release() if claim.has_begun else Release(NOT_BEGUN))
        claim.signal.set("the worker stops")
        return ended

    def ended(
        self, claim: Claim, outcome: str, state: JobState | None, *, reason: str | None = None,
        run_at: datetime | None = None, failure: Failure | None = None,
        error: BaseException | None = None, is_overtaken: bool = False,
    ) -> Ended:  # fmt: skip
        """Tell subscribers that an attempt ended, and return how."""
        self._telemetry.emit(
            Event.JOB_ENDED, job=claim.job, outcome=outcome, state=state, duration=claim.duration,
            reason=reason, run_at=run_at, failure=failure, is_overtaken=is_overtaken,
        )  # fmt: skip
        return Ended(
            job=claim.job,
            outcome=outcome,
            state=state,
            reason=reason,
            run_at=run_at,
            failure=failure,
            error=error,
        )

    def late(self, claim: Claim) -> Ended:
        """Tell that a result was dropped, and return so."""
        log.warning(
            "late result of job %s, attempt %s: dropped, its writes rolled back",
            claim.job.id, claim.job.attempt,
        )  # fmt: skip
        self._telemetry.emit(Event.JOB_LATE, job=claim.job)
        return Ended(job=claim.job, outcome="late", state=None)

    def _land(self, connection: Connection, claim: Claim) -> bool:
        now = self._sources.clock.now()
        with ours():
            rests = self._work.land(connection, claim, Landing.TARGET, now=now)
        self._reach(CrashPoint.FINISH_RECORD_MOVED)
        return rests

    def _flush(self, session: Session) -> None:
        session.flush()
        self._reach(CrashPoint.FINISH_FLUSHED)

    def _end_of_unsure(self, claim: Claim, outcome: Outcome) -> Ended | None:
        """Tell of an end whose answer was lost, if it landed; return it."""
        found = self._retries.find_unsure(claim)
        if found == (JobState.COMPLETED, claim.job.attempt):
            claim.advance(Phase.SETTLED)
            return self.ended(claim, "complete", JobState.COMPLETED)
        if found is None or isinstance(outcome, Late):
            return None
        settlement = self.recorder.settlement(claim, counted(claim.job, outcome))
        if found != (settlement.state, settlement.attempt):
            return None
        claim.advance(Phase.SETTLED)
        return self._tell(claim, outcome, settlement, settlement.state)

    def _commit_own(self, success: Ending, *, lock_timeout: timedelta | None = None) -> None:
        claim = success.claim
        _begin_finish(claim)
        if self._store.can_fuse or not claim.policy.has_record:
            try:
                self._commit_fused(success, lock_timeout)
            except RecordKeptError:  # a move that has nothing to write may end all the same
                self._commit_in_steps(success, lock_timeout)
        else:
            self._commit_in_steps(success, lock_timeout)
        self._is_settled(claim)

    def _commit_fused(self, success: Ending, lock_timeout: timedelta | None) -> None:
        claim, now = success.claim, self._sources.clock.now()
        settlement = self.recorder.settlement(claim, Complete())
        with self._open_for_one(claim, lock_timeout) as connection:
            self._reach(CrashPoint.FINISH_BEFORE_COMMIT)
            if self._work.land_and_finish(
                connection, claim, settlement, now=now, changes=success.changes
            ) is None:  # fmt: skip
                raise LateResult

    def _commit_in_steps(self, success: Ending, lock_timeout: timedelta | None) -> None:
        claim, now = success.claim, self._sources.clock.now()
        settlement = self.recorder.settlement(claim, Complete())
        with self._store.transaction(lock_timeout=lock_timeout) as connection:
            rests = self._work.land(
                connection, claim, Landing.TARGET, now=now, changes=success.changes
            )
            self._reach(CrashPoint.FINISH_RECORD_MOVED)
            self.recorder.finish_job(connection, claim, settlement, rests)
            self._reach(CrashPoint.FINISH_BEFORE_COMMIT)

    def _open_for_one(
        self, claim: Claim, lock_timeout: timedelta | None
    ) -> AbstractContextManager[Connection]:
        if lock_timeout is not None or not claim.policy.has_record:
            return self._store.single(lock_timeout=lock_timeout)
        return self._store.transaction(yields=True)  # it may hold the record while it waits

    def _complete_together(self, successes: Sequence[Ending]) -> frozenset[int]:
        """Return the ids of the jobs that are finished now."""
        left = [s for s in successes if s.claim.advance(Phase.FINISHING)]
        self._reach(CrashPoint.FINISH_BEFORE_COMMIT)
        try:
            finished = self._work.finish_together(left, now=self._sources.clock.now())
        except Exception as error:  # noqa: BLE001 - one by one, they tell whose fault it was
            log.debug("%d jobs are finished one by one: %s", len(left), error)
            for success in left:
                success.claim.is_unsure |= is_away(error)
            return frozenset()
        for success in left:
            if success.claim.job.id in finished:
                self._is_settled(success.claim)
        return finished

    def _conclude_once(self, claim: Claim, outcome: Outcome) -> Ended:
        _begin_finish(claim)
        with self._store.transaction(yields=True) as connection:
            settlement, state = self.recorder.settle(connection, claim, outcome)
            self._reach(CrashPoint.FINISH_BEFORE_COMMIT)
        self._is_settled(claim)
        return self._tell(claim, outcome, settlement, state)

    def _tell(
        self, claim: Claim, outcome: Outcome, settlement: Settlement, state: JobState
    ) -> Ended:
        failed = outcome if isinstance(outcome, Fail) else None
        if settlement.edge not in {"fail", "discard"}:
            failed = None
        return self.ended(
            claim, settlement.edge, state, reason=settlement.reason, run_at=settlement.run_at,
            failure=failed.failure if failed else None, error=failed.error if failed else None,
            is_overtaken=settlement.is_overtaken,
        )  # fmt: skip

    def _is_settled(self, claim: Claim) -> None:
        claim.advance(Phase.SETTLED)
        self._reach(CrashPoint.FINISHED)


def _commit(session: Session, claims: Sequence[Claim]) -> None:
    try:
        session.commit()
    except SQLAlchemyError as error:
        for claim in claims:
            claim.is_unsure |= is_away(error)
        raise


def outcome_of(error: Exception) -> Outcome:
    """Return the outcome of an attempt whose commit failed."""
    match error:
        case LateResult():
            return Late()
        case MovedAway():
            return Superseded(str(error))
        case UndoneError() | RecordHidden():
            return give_back(error)
        case _:
            return Fail(failure=describe_failure(error), error=error)


def _begin_finish(claim: Claim) -> None:
    if not claim.advance(Phase.FINISHING):
        raise LateResult

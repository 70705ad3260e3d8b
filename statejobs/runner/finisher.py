"""Records how attempts end: always record, then job, then history, in one fenced transaction."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from statejobs.domain.backoff import safe_delay
from statejobs.domain.clock import Sources
from statejobs.domain.failure import describe_failure
from statejobs.domain.job import Job, JobState
from statejobs.domain.lifecycle import Landing, Settlement, backoff_step, settle
from statejobs.domain.outcome import (
    Cancel,
    Complete,
    Crash,
    Fail,
    Outcome,
    Release,
    Snooze,
    Superseded,
)
from statejobs.runner.points import CrashPoint, Reach, live_on
from statejobs.runner.port import Claim, MovedAway, Work
from statejobs.store.lazy_begin import begin_now
from statejobs.store.store import Store
from statejobs.telemetry import Event, Telemetry

log = logging.getLogger("statejobs.runner")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between tries of a database that is away


class LateResult(Exception):  # noqa: N818 - an answer, not an error
    """The job is no longer ours: its lease ended, or an outcome was recorded already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a claim ended."""

    job: Job
    outcome: str
    """Name of the edge that the job took, or `late`."""
    state: JobState | None
    """Where the job is now; None when the result came too late."""


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
        self._store, self._work, self._lease = store, work, lease
        self._sources, self._telemetry, self._reach = sources, telemetry, reach

    def commit(self, session: Session, claim: Claim) -> None:
        """Commit what the body wrote, the record's move and the job's end, together or not at all.

        Raises:
            LateResult: The job is no longer ours; the caller rolls back.
            MovedAway: The record is no longer where the claim left it; likewise.
        """
        if claim.is_lost or claim.is_settled:
            raise LateResult
        session.flush()
        connection = session.connection()
        begin_now(connection)
        self._reach(CrashPoint.FINISH_FLUSHED)
        now = self._sources.clock.now()
        rests = self._work.land(connection, claim, Landing.TARGET, now=now)
        self._reach(CrashPoint.FINISH_RECORD_MOVED)
        self._finish_job(connection, claim, self._settlement(claim, Complete()), rests)
        self._reach(CrashPoint.FINISH_BEFORE_COMMIT)
        session.commit()
        claim.is_settled = True
        self._reach(CrashPoint.FINISHED)

    def commit_own(self, claim: Claim, changes: Mapping[str, Any]) -> None:
        """Commit a body that changed only columns of its own record, without a unit of work.

        Raises:
            LateResult: The job is no longer ours.
            MovedAway: The record is no longer where the claim left it.
        """
        if claim.is_lost or claim.is_settled:
            raise LateResult
        now = self._sources.clock.now()
        settlement = self._settlement(claim, Complete())
        if self._store.can_fuse:
            with self._store.single() as connection:
                self._reach(CrashPoint.FINISH_BEFORE_COMMIT)
                if self._work.land_and_finish(
                    connection, claim, settlement, now=now, changes=changes
                ) is None:  # fmt: skip
                    raise LateResult
        else:
            with self._store.transaction() as connection:
                rests = self._work.land(connection, claim, Landing.TARGET, now=now, changes=changes)
                self._reach(CrashPoint.FINISH_RECORD_MOVED)
                self._finish_job(connection, claim, settlement, rests)
                self._reach(CrashPoint.FINISH_BEFORE_COMMIT)
        claim.is_settled = True
        self._reach(CrashPoint.FINISHED)

    def conclude(self, claim: Claim, outcome: Outcome) -> Ended:
        """Record an outcome other than success; what the body wrote is rolled back already.

        A database that is away is asked again until the lease is over; after that, the rescue of
        another node records the attempt as crashed.
        """
        give_up_at = claim.began + self._lease.total_seconds()
        pause = _FIRST_PAUSE
        while not (claim.is_lost or claim.is_settled):
            try:
                return self._conclude_once(claim, outcome)
            except LateResult:
                break
            except SQLAlchemyError as error:
                if self._sources.clock.monotonic() > give_up_at:
                    log.warning("job %s: no outcome recorded: %s", claim.job.id, error)
                    break
                self._sources.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
        return self.late(claim)

    def release(self, claim: Claim) -> Ended:
        """Give a running job back at shutdown; its attempt does not count."""
        ended = self.conclude(claim, Release())
        claim.signal.set("the worker stops")
        return ended

    def settle(
        self, connection: Connection, claim: Claim, outcome: Outcome
    ) -> tuple[Settlement, JobState]:
        """Write *outcome* on *connection*: the record moves, then the job, then the attempt.

        Raises:
            LateResult: The job is no longer ours.
        """
        outcome = self._heed_cancel(connection, claim, outcome)
        settlement = self._settlement(claim, outcome)
        try:
            rests = self._land(connection, claim, outcome, settlement)
        except MovedAway as moved:
            outcome = Superseded(claim.signal.reason or str(moved))
            settlement = self._settlement(claim, outcome)
            rests = self._work.rests_in_source(connection, claim)
        state = self._finish_job(connection, claim, settlement, rests)
        self._record_attempt(connection, claim.job, outcome, settlement)
        if settlement.landing is Landing.FAILED:
            self._run_discard_hook(connection, claim, settlement)
        return settlement, state

    def ended(self, claim: Claim, outcome: str, state: JobState | None) -> Ended:
        """Tell subscribers that an attempt ended, and return how."""
        self._telemetry.emit(
            Event.JOB_ENDED, job=claim.job, outcome=outcome, state=state, duration=claim.duration
        )
        return Ended(job=claim.job, outcome=outcome, state=state)

    def late(self, claim: Claim) -> Ended:
        """Tell that a result was dropped, and return so."""
        log.warning(
            "late result of job %s, attempt %s: dropped, its writes rolled back",
            claim.job.id, claim.job.attempt,
        )  # fmt: skip
        self._telemetry.emit(Event.JOB_LATE, job=claim.job)
        return Ended(job=claim.job, outcome="late", state=None)

    def _conclude_once(self, claim: Claim, outcome: Outcome) -> Ended:
        with self._store.transaction() as connection:
            settlement, state = self.settle(connection, claim, outcome)
            self._reach(CrashPoint.FINISH_BEFORE_COMMIT)
        claim.is_settled = True
        self._reach(CrashPoint.FINISHED)
        return self.ended(claim, settlement.edge, state)

    def _heed_cancel(self, connection: Connection, claim: Claim, outcome: Outcome) -> Outcome:
        """A job that someone asked to stop does not go on, however its attempt ended."""
        if not isinstance(outcome, Fail | Snooze | Release | Crash):
            return outcome
        self._work.rests_in_source(connection, claim)  # locks the record: it comes before the job
        reason = self._store.find_cancel_request(connection, claim.job)
        return outcome if reason is None else Cancel(reason)

    def _land(
        self, connection: Connection, claim: Claim, outcome: Outcome, settlement: Settlement
    ) -> bool:
        if isinstance(outcome, Superseded):
            raise MovedAway(outcome.reason)
        now = self._sources.clock.now()
        return self._work.land(
            connection, claim, settlement.landing, now=now, reason=settlement.reason
        )

    def _finish_job(
        self,
        connection: Connection,
        claim: Claim,
        settlement: Settlement,
        rests: bool,  # noqa: FBT001
    ) -> JobState:
        state = self._store.finish(
            connection,
            claim.job,
            settlement,
            now=self._sources.clock.now(),
            rests_in_source=rests,
            allowance=claim.policy.max_attempts,
        )
        if state is None:
            raise LateResult
        return state

    def _settlement(self, claim: Claim, outcome: Outcome) -> Settlement:
        wait = timedelta()
        if isinstance(outcome, Fail) and not claim.job.is_last_attempt:
            step = backoff_step(claim.job, claim.policy.max_attempts)
            wait, problem = safe_delay(claim.policy.backoff, step, outcome.error, self._sources.rng)
            if problem is not None:
                log.error("backoff of %s failed, the default is used: %r", claim.job.key, problem)
        return settle(
            claim.job,
            outcome,
            now=self._sources.clock.now(),
            wait=wait,
            max_crashes=claim.policy.max_crashes,
        )

    def _record_attempt(
        self, connection: Connection, job: Job, outcome: Outcome, settlement: Settlement
    ) -> None:
        name = _SPENT.get(type(outcome))
        if name is None:
            return  # the attempt did not count
        failure = outcome.failure if isinstance(outcome, Fail) else None
        now = self._sources.clock.now()
        self._store.record_attempt(
            connection, job, name, now=now, failure=failure, message=settlement.reason
        )

    def _run_discard_hook(
        self, connection: Connection, claim: Claim, settlement: Settlement
    ) -> None:
        problem = self._work.discarded(connection, claim, settlement.reason or settlement.edge)
        if problem is not None:  # the discard stands
            log.error("on_discard of %s failed: %r", claim.job.key, problem)
            now = self._sources.clock.now()
            failure = describe_failure(problem)
            self._store.record_attempt(
                connection, claim.job, "on_discard", now=now, failure=failure
            )


_SPENT: dict[type, str] = {
    Fail: "failed",
    Crash: "crashed",
    Cancel: "cancelled",
    Superseded: "superseded",
}

"""Writes one outcome on a connection: the record moves, then its job, then the attempt's row."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection

from statejobs.runner.port import Claim, Ending, MovedAway, Work
from statejobs.store.finish import find_cancel_request, finish_job, record_attempt
from statejobs.store.hold import note_on_job
from statejobs.store.store import Store
from statejobs.values.backoff import safe_delay
from statejobs.values.clock import Sources
from statejobs.values.failure import describe_failure
from statejobs.values.job import ENDED, Job, JobState
from statejobs.values.lifecycle import Landing, Settlement, backoff_step, counted, settle
from statejobs.values.outcome import (
    Cancel,
    Complete,
    Crash,
    Fail,
    GiveBack,
    Outcome,
    Release,
    Snooze,
    Superseded,
)
from statejobs.values.text import REASON_LIMIT, shown_text

log = logging.getLogger("statejobs.runner")


class LateResult(Exception):  # noqa: N818 - an answer, not an error
    """The job is no longer ours: its lease ended, or an outcome was recorded already."""


class Recorder:
    """Decides what an outcome does, and writes it; never commits."""

    def __init__(self, store: Store, work: Work, sources: Sources) -> None:
        self._store, self._work, self._sources = store, work, sources

    def settle(
        self, connection: Connection, claim: Claim, outcome: Outcome, *, is_held: bool = False
    ) -> tuple[Settlement, JobState]:
        """Write *outcome* on *connection*: the record moves, then the job, then the attempt.

        Args:
            connection: With the transaction.
            claim: Whose attempt ended.
            outcome: How.
            is_held: The transaction has locked and checked the record before it wrote anything.

        Raises:
            LateResult: The job is no longer ours.
            MovedAway: What *is_held* has been moved all the same, by the attempt itself.
        """
        outcome = self._heed_cancel(connection, claim, counted(claim.job, outcome))
        settlement = self.settlement(claim, outcome)
        try:
            rests = self._land(connection, claim, outcome, settlement)
        except MovedAway as moved:
            if is_held and not isinstance(outcome, Superseded):
                raise
            went = self._work.whereabouts(connection, claim)
            reason = claim.signal.reason or went.reason or str(moved)
            outcome = Superseded(reason, is_declared=went.is_declared)
            settlement = self.settlement(claim, outcome)
            rests = went.rests_in_source
        if claim.unsaved_checkpoint is not None:
            note_on_job(connection, claim.job, "checkpoint", claim.unsaved_checkpoint)
        state = self.finish_job(connection, claim, settlement, rests)
        self._record_attempt(connection, claim.job, outcome, settlement)
        if settlement.landing is Landing.FAILED and state in ENDED:
            reason = settlement.reason or settlement.edge
            self.run_discard_hook(connection, claim, reason)
        return settlement, state

    def settle_chunk(
        self, connection: Connection, endings: Sequence[Ending]
    ) -> list[tuple[Settlement, JobState]]:
        """Write how each claim of one call ends: completed jobs at once, others by themselves.

        Raises:
            LateResult: A job is no longer ours.
            MovedAway: A record is no longer where its claim left it.
        """
        completing = [
            Ending(end.claim, Complete(), end.changes)
            for end in endings
            if isinstance(end.outcome, Complete)
        ]
        finished: frozenset[int] = frozenset()
        policy = completing[0].claim.policy if completing else None
        if policy is not None and (chunk := policy.chunk) is not None and not policy.deletes:
            now = self._sources.clock.now()
            finished = chunk.work.finish_within(connection, completing, now=now)
        return [
            (self.settlement(end.claim, end.outcome), JobState.COMPLETED)
            if end.claim.job.id in finished
            else self._settle_one(connection, end)
            for end in endings
        ]

    def settlement(self, claim: Claim, outcome: Outcome) -> Settlement:
        """Decide what *outcome* does to the job and the record of *claim*."""
        wait = timedelta()
        if isinstance(outcome, Fail) and not claim.job.is_last_attempt:
            step = backoff_step(claim.job, claim.policy.max_attempts)
            wait, problem = safe_delay(claim.policy.backoff, step, outcome.error, self._sources.rng)
            if problem is not None:
                failure = describe_failure(problem, self._store.redaction)
                log.error(
                    "backoff of %s failed, the default is used: %s: %s",
                    claim.job.key, failure.error_type, failure.message,
                )  # fmt: skip
        settlement = settle(
            claim.job,
            outcome,
            now=self._sources.clock.now(),
            wait=wait,
            max_crashes=claim.policy.max_crashes,
        )
        if settlement.reason is None:
            return settlement
        reason = shown_text(settlement.reason, REASON_LIMIT, self._store.redaction)
        return replace(settlement, reason=reason)

    def finish_job(
        self,
        connection: Connection,
        claim: Claim,
        settlement: Settlement,
        rests: bool,  # noqa: FBT001
    ) -> JobState:
        """End the job, if it is still ours.

        Raises:
            LateResult: It is not.
        """
        state = finish_job(
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

    def run_discard_hook(self, connection: Connection, claim: Claim, reason: str) -> None:
        """Tell the trigger or task that its job was given up; what the hook raises is recorded."""
        problem = self._work.discarded(connection, claim, reason)
        if problem is None:
            return
        failure = describe_failure(problem, self._store.redaction)
        log.error(
            "on_discard of %s failed: %s: %s", claim.job.key, failure.error_type, failure.message
        )
        now = self._sources.clock.now()
        record_attempt(connection, claim.job, "on_discard", now=now, failure=failure)

    def _settle_one(self, connection: Connection, end: Ending) -> tuple[Settlement, JobState]:
        claim = end.claim
        if not isinstance(end.outcome, Complete):
            return self.settle(connection, claim, end.outcome, is_held=True)
        now = self._sources.clock.now()
        rests = self._work.land(connection, claim, Landing.TARGET, now=now, changes=end.changes)
        settlement = self.settlement(claim, end.outcome)
        return settlement, self.finish_job(connection, claim, settlement, rests)

    def _heed_cancel(self, connection: Connection, claim: Claim, outcome: Outcome) -> Outcome:
        """A job that someone asked to stop does not go on, however its attempt ended."""
        if not isinstance(outcome, Fail | GiveBack | Snooze | Release | Crash):
            return outcome
        self._work.rests_in_source(connection, claim)  # locks the record: it comes before the job
        reason = find_cancel_request(connection, claim.job)
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

    def _record_attempt(
        self, connection: Connection, job: Job, outcome: Outcome, settlement: Settlement
    ) -> None:
        name = _SPENT.get(type(outcome))
        if name is None or settlement.is_overtaken:
            return  # the attempt did not count, or its end is in the history of the record
        if isinstance(outcome, Crash) and job.owner is None:
            return  # its attempt had ended before; only the record was waited for
        failure = outcome.failure if isinstance(outcome, Fail) else None
        now = self._sources.clock.now()
        record_attempt(connection, job, name, now=now, failure=failure, message=settlement.reason)


_SPENT: dict[type, str] = {
    Fail: "failed",
    Crash: "crashed",
    Cancel: "cancelled",
    Superseded: "superseded",
}

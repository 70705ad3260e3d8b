"""What becomes of one job that could not be claimed: it waits, is tried again, or is over."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta

from msgspec import structs
from sqlalchemy import Connection

from statejobs.events import JobPostponed
from statejobs.runner.blame import Blame, blame_for
from statejobs.runner.ended import Ended
from statejobs.runner.finisher import Finisher
from statejobs.runner.port import Claim, Policy, Works
from statejobs.runner.sifting import Blamed
from statejobs.store import unclaimed as statements
from statejobs.store.claim import lock_listed
from statejobs.store.faults import words_of
from statejobs.store.finish import record_attempt
from statejobs.store.store import TABLE_PATIENCE, Store
from statejobs.store.unclaimed import Candidate
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.values.failure import MESSAGE_LIMIT, Failure, describe_failure
from statejobs.values.job import Job
from statejobs.values.lifecycle import Settlement
from statejobs.values.outcome import Fail, HookKind
from statejobs.values.text import REASON_LIMIT, shown_text
from statejobs.values.waiting import OTHER_CODE, wait_again

log = logging.getLogger("statejobs.runner")

SHORTEST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = timedelta(seconds=60)
"""Of a job whose place is taken."""
_OF_OTHERS = {Blame.MOMENT, Blame.LOCK}
"""What costs a job no attempt: somebody else's work is in its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failed:
    """An attempt that could not begin."""

    claim: Claim
    failure: Failure
    settlement: Settlement


class NotBegun:
    """Settles jobs whose attempt could not begin, each by itself."""

    def __init__(
        self,
        store: Store,
        works: Works,
        finisher: Finisher,
        *,
        node_id: str,
        sources: Sources,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._works = works
        self._finisher = finisher
        self._node_id = node_id
        self._sources = sources
        self._telemetry = telemetry

    def settle(self, one: Blamed) -> list[Ended]:
        """Put the job back, or end it; return the attempt that this ended, if one was spent."""
        job = self._read(one.candidate)
        if job is None:
            return []
        if one.blame in _OF_OTHERS:
            self._put_back(job, one.error)
            return []
        if one.blame is Blame.ROLE:
            self._leave_to_others(job, one.error)
            return []
        return self._spend_attempt(job, one.error)

    def _read(self, candidate: Candidate) -> Job | None:
        """Return the job; None when it is queued no more, or was discarded as unreadable."""
        try:
            with self._transaction() as connection:
                found = lock_listed(connection, [candidate.id], most=1)
        except Exception as error:
            if blame_for(error) is not Blame.JOB:
                raise
            self._discard_unread(candidate, error)
            return None
        return found[0] if found else None

    def _put_back(self, job: Job, error: Exception) -> None:
        now = self._sources.clock.now()
        wait = wait_again(
            now - job.enqueued_at,
            self._sources.rng,
            least=SHORTEST_WAIT,
            most=LONGEST_WAIT,
        )
        with self._transaction() as connection:
            statements.put_back(
                connection, job.id, now + wait, f"waits: {self.words(error)}"
            )
        self._telemetry.emit(JobPostponed, job=job)

    def _leave_to_others(self, job: Job, error: Exception) -> None:
        now = self._sources.clock.now()
        reason = self.words(error)
        until = now + wait_again(now - job.enqueued_at, self._sources.rng)
        with self._transaction() as connection:
            statements.put_back(connection, job.id, until, f"{OTHER_CODE}{reason}")
        log.warning(
            "a job of %s is left to a worker of another role: %s", job.key, reason
        )
        self._telemetry.emit(JobPostponed, job=job)

    def _spend_attempt(self, job: Job, error: Exception) -> list[Ended]:
        """Count an attempt that could not begin; the record stays, unless it was the last."""
        failed = self._failed(job, error)
        try:
            is_written = self._write(job, failed, moves_record=True)
        except Exception as refusal:
            blame = blame_for(refusal)
            if blame in _OF_OTHERS:  # somebody holds the record
                self._put_back(job, refusal)
                return []
            if blame is Blame.ROLE:
                self._leave_to_others(job, refusal)
                return []
            if blame is Blame.EVERYONE or not failed.settlement.is_ended:
                raise
            failed = _stuck(failed, self.words(refusal))
            is_written = self._write(job, failed, moves_record=False)
        if not is_written:
            return []
        settlement = failed.settlement
        return [
            self._finisher.tell(
                failed.claim,
                settlement.edge,
                settlement.state,
                job_outcome=settlement.outcome,
                reason=settlement.reason,
                run_at=settlement.run_at,
                failure=failed.failure,
            )
        ]

    def _failed(self, job: Job, error: Exception) -> _Failed:
        now = self._sources.clock.now()
        policy = self._works.policy(job.key)
        failure = _not_begun(describe_failure(error, self._store.redaction), policy)
        claim = Claim(
            job=structs.replace(
                job, attempt=job.attempt + 1, owner=self._node_id, started_at=now
            ),
            subject=None,
            policy=policy,
            work=self._works.of(job.key),
            began=self._sources.clock.monotonic(),
        )
        outcome = Fail(failure=failure, error=error)
        settlement = self._finisher.steps.settling.settle(claim, outcome)
        return _Failed(claim=claim, failure=failure, settlement=settlement)

    def _write(self, job: Job, failed: _Failed, *, moves_record: bool) -> bool:
        """Write a failed attempt; False when the job is queued no more."""
        now = self._sources.clock.now()
        settlement = failed.settlement
        gives_up = settlement.is_ended and moves_record
        with self._transaction() as connection:
            if gives_up:
                self._move_to_failed(connection, failed.claim, settlement)
            if not statements.fail_queued(connection, job, settlement, now):
                connection.rollback()
                return False
            record_attempt(
                connection,
                failed.claim.job,
                "failed",
                now=now,
                failure=failed.failure,
                message=settlement.reason,
            )
            if gives_up:
                reason = settlement.reason or settlement.edge
                self._finisher.steps.run_hook(
                    connection, failed.claim, HookKind.DISCARD, reason
                )
        return True

    def _move_to_failed(
        self, connection: Connection, claim: Claim, settlement: Settlement
    ) -> None:
        claim.subject = claim.work.find_at_rest(connection, claim.job)
        self._finisher.steps.give_up_record(connection, claim, settlement.reason)

    def _discard_unread(self, candidate: Candidate, error: Exception) -> None:
        """Give up a job whose own row cannot be read, without reading it."""
        now = self._sources.clock.now()
        failure = describe_failure(error, self._store.redaction)
        reason = f"its row cannot be read: {self.words(error)}"
        with self._transaction() as connection:
            if statements.discard_queued(connection, candidate.id, reason, now):
                statements.record_unread(
                    connection, candidate, failure, node=self._node_id, now=now
                )
        log.error("job %s (%s) is discarded: %s", candidate.id, candidate.key, reason)

    def words(self, error: BaseException) -> str:
        """Return what the database said, on one line."""
        (line, *_) = words_of(error).strip().splitlines() or [type(error).__name__]
        return shown_text(line, REASON_LIMIT, self._store.redaction)

    def _transaction(self) -> AbstractContextManager[Connection]:
        return self._store.transaction(lock_timeout=TABLE_PATIENCE)


def _not_begun(failure: Failure, policy: Policy) -> Failure:
    """Let *failure* say that the action was not called: nothing of it is to be mended."""
    to = "" if policy.during is None else f" to {policy.during!r}"
    what = f"its record could not be moved{to}; the action was not called"
    return replace(
        failure,
        message=shown_text(f"{what}: {failure.message}", MESSAGE_LIMIT),
        says=shown_text(f"{what}: {failure.cause}", REASON_LIMIT),
    )


def _stuck(failed: _Failed, words: str) -> _Failed:
    """Return *failed* for a record that cannot be moved to `failed` either."""
    settlement = failed.settlement
    reason = f"{settlement.reason}; and its record could not be moved: {words}"
    return replace(failed, settlement=replace(settlement, reason=reason))

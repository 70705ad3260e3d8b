"""Jobs whose record the database does not let go: put aside while limits last, then given up.

Their attempt has ended, and the record cannot go where that leads. So that nobody waits for a lease
and each end is told, the job waits without an owner for the rounds of the rescue.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import StatementError

from statejobs.errors import (
    RecordHiddenError,
    RecordKeptError,
    RowRefusedError,
    UnreadableRowError,
)
from statejobs.runner.port import Claim, Works
from statejobs.runner.steps import Steps
from statejobs.store.expired import discard_stuck, put_aside
from statejobs.store.faults import words_of
from statejobs.store.finish import record_attempt
from statejobs.store.hold import note_on_job
from statejobs.store.revise import request_cancel
from statejobs.store.rows import Expired
from statejobs.store.store import Store
from statejobs.values.backoff import LONGEST, safe_delay
from statejobs.values.clock import Sources
from statejobs.values.failure import MESSAGE_LIMIT, Failure, describe_failure
from statejobs.values.job import JobOutcome, JobState
from statejobs.values.lifecycle import STUCK, backoff_step, counted
from statejobs.values.outcome import (
    Cancel,
    Fail,
    GiveBack,
    HookKind,
    Outcome,
    Snooze,
)
from statejobs.values.redaction import DEFAULT, Redaction
from statejobs.values.text import REASON_LIMIT, clean_text, shown_text

log = logging.getLogger("statejobs.runner")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An attempt that has ended, and whose record cannot be moved."""

    job: Expired
    error: Exception
    """What the move met."""
    is_last: bool
    """Whether the job is given up."""
    step: int
    """Which wait of the backoff is due."""
    own: Failure | None = None
    """What the action raised; None when it raised nothing."""
    cause: BaseException | None = None
    """Likewise, for the backoff."""
    counts: bool = True
    """Whether the attempt counts: the refusal of a move is not what a snooze asked for."""
    due: datetime | None = None
    """When the action asked to be run again; None: after the backoff."""
    cancels: str | None = None
    """Why the action cancelled its job, which is heeded once the record can be moved."""
    redaction: Redaction = DEFAULT
    """How it is told."""
    is_crash: bool = False
    """Whether it counts as a crash: of a worker that is gone, or of a move that was tried again."""

    @property
    def was_put_aside(self) -> bool:
        """Whether its attempt had ended before, and only the move was tried again."""
        return self.job.owner is None

    @property
    def failure(self) -> Failure:
        """What the attempt's row says."""
        words = f"its record cannot be moved back: {self.refused.message}"
        if self.own is not None:
            return replace(
                self.own, message=self._shown(f"{self.own.message}; and {words}")
            )
        how = "crashed, and " if self.is_crash else ""
        return replace(self.refused, message=self._shown(f"{how}{words}"))

    @property
    def refused(self) -> Failure:
        """Describe the refusal; of the database's only its own words, not statement and values."""
        failure = describe_failure(self.error, self.redaction)
        if not isinstance(self.error, StatementError):
            return failure
        return replace(failure, message=self._shown(words_of(self.error)), traceback="")

    def _shown(self, message: str) -> str:
        return shown_text(message, MESSAGE_LIMIT, self.redaction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """Where a refusal has left its job."""

    state: JobState
    reason: str
    job_outcome: JobOutcome | None = None
    """How the job ended; None when it goes on."""
    run_at: datetime | None = None
    """When the rescue tries to move its record again."""


class Refused:
    """Writes refusals; never commits."""

    def __init__(
        self, store: Store, works: Works, steps: Steps, sources: Sources
    ) -> None:
        self._store = store
        self._works = works
        self._steps = steps
        self._sources = sources

    def write(
        self,
        connection: Connection,
        refusal: Refusal,
        claim: Claim | None,
        *,
        waits: bool = False,
    ) -> Aside | None:
        """Put the job aside, or give it up; return None when someone else has it.

        Args:
            connection: With the transaction.
            refusal: Why.
            claim: For the hook of a job that is given up; None when its record is not known.
            waits: Whether it waits for whoever has locked the job.
        """
        if refusal.is_last:
            return self._give_up(connection, refusal, claim, waits=waits)
        return self._put_aside(connection, refusal, claim, waits=waits)

    def _put_aside(
        self,
        connection: Connection,
        refusal: Refusal,
        claim: Claim | None,
        *,
        waits: bool,
    ) -> Aside | None:
        now = self._sources.clock.now()
        until = self._until(refusal)
        reason = f"its record cannot be moved: {refusal.refused.message}"
        if claim is not None and claim.unsaved_checkpoint is not None:
            note_on_job(connection, claim.job, "checkpoint", claim.unsaved_checkpoint)
        is_ours = put_aside(
            connection,
            refusal.job,
            token=self._sources.ids(),
            until=until,
            reason=reason,
            is_crash=refusal.is_crash,
            counts=refusal.counts,
            waits=waits,
        )
        if not is_ours:
            return None
        if refusal.cancels is not None:
            request_cancel(connection, [refusal.job.id], refusal.cancels)
        if refusal.counts:
            self._record(connection, refusal, now)
        return Aside(state=JobState.PROCESSING, reason=reason, run_at=until)

    def _until(self, refusal: Refusal) -> datetime:
        if refusal.due is not None:
            return refusal.due
        backoff = self._works.policy(refusal.job.key).backoff
        cause = refusal.cause or refusal.error
        wait, _ = safe_delay(backoff, refusal.step, cause, self._sources.rng)
        return self._sources.clock.now() + wait

    def _give_up(
        self,
        connection: Connection,
        refusal: Refusal,
        claim: Claim | None,
        *,
        waits: bool,
    ) -> Aside | None:
        now = self._sources.clock.now()
        outcome = JobOutcome.CRASHED if refusal.is_crash else JobOutcome.FAILED
        reason = f"{STUCK}its record cannot be moved: {refusal.refused.message}"
        is_ours = discard_stuck(
            connection,
            refusal.job,
            reason=reason,
            now=now,
            is_crash=refusal.is_crash,
            outcome=outcome,
            waits=waits,
        )
        if not is_ours:
            return None
        self._record(connection, refusal, now)
        if claim is not None:
            self._steps.run_hook(connection, claim, HookKind.DISCARD, reason)
        return Aside(state=JobState.DISCARDED, reason=reason, job_outcome=outcome)

    def _record(self, connection: Connection, refusal: Refusal, now: datetime) -> None:
        if refusal.was_put_aside:
            return  # nothing was run
        outcome = "crashed" if refusal.is_crash else "failed"
        record_attempt(
            connection, refusal.job, outcome, now=now, failure=refusal.failure
        )


def refusal_of(
    claim: Claim,
    outcome: Outcome,
    error: Exception,
    now: datetime,
    redaction: Redaction = DEFAULT,
) -> Refusal:
    """Return how an attempt that ended with *outcome* is put aside, after *error*.

    One that was not to count does not, and never is the last: whether limits are used up, the
    rescue decides. A snooze waits for its own time.
    """
    job = claim.job
    outcome = counted(claim.job, outcome)
    raised = outcome if isinstance(outcome, Fail | GiveBack) else None
    return Refusal(
        job=Expired(
            id=job.id,
            key=job.key,
            attempt=job.attempt,
            max_attempts=job.max_attempts,
            crashes=job.crashes,
            owner=job.owner,
            token=job.token,
            started_at=job.started_at,
        ),
        error=error,
        is_last=job.is_last_attempt and isinstance(outcome, Fail | Cancel),
        step=backoff_step(job, claim.policy.max_attempts),
        own=raised.failure if raised else None,
        cause=raised.error if raised else None,
        counts=outcome.spends_attempt,
        due=now + min(outcome.delay, LONGEST) if isinstance(outcome, Snooze) else None,
        redaction=redaction,
        cancels=clean_text(outcome.reason, REASON_LIMIT)
        if isinstance(outcome, Cancel)
        else None,
    )


def tell_of(refusal: Refusal) -> None:
    """Log a refusal that was written."""
    # what is alike is told once
    message = f"job %s (%s): {_what_is_refused(refusal)}: %s%s"
    log.log(
        logging.ERROR if refusal.is_last else logging.WARNING,
        message,
        refusal.job.id,
        refusal.job.key,
        refusal.refused.message,
        _HOW_ON.format(job_id=refusal.job.id) if refusal.is_last else "",
        exc_info=None if isinstance(refusal.error, _SAYS_IT_ALL) else refusal.error,
    )


def _what_is_refused(refusal: Refusal) -> str:
    if refusal.was_put_aside:
        return "its record still cannot be moved back"
    ended = "its worker is gone" if refusal.is_crash else "its attempt has ended"
    return f"{ended}, and its record cannot be moved back"


_SAYS_IT_ALL = (
    StatementError,
    RecordHiddenError,
    RecordKeptError,
    RowRefusedError,
    UnreadableRowError,
)
"""What needs no traceback."""
_HOW_ON = (
    "; the job is discarded, and the record stays where it is "
    "until: statejobs job retry {job_id}"
)

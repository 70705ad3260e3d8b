"""What becomes of jobs that could not be claimed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta

from msgspec import structs
from sqlalchemy import Connection

from statejobs.events import JobPostponed, KeyHeld
from statejobs.runner.blame import Blame, blame_for, is_everyones, likeness_of
from statejobs.runner.blockers import who_has_locked
from statejobs.runner.ended import Ended
from statejobs.runner.finisher import Finisher
from statejobs.runner.held_keys import LONGEST, HeldKeys
from statejobs.runner.port import Claim, Policy, Works
from statejobs.runner.sifting import ENOUGH, Blamed
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
from statejobs.values.outcome import Fail
from statejobs.values.text import REASON_LIMIT, shown_text
from statejobs.values.waiting import OTHER_CODE, wait_again

log = logging.getLogger("statejobs.runner")

SHORTEST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = timedelta(seconds=60)
"""Of a job whose place is taken."""
LOCKED_FOR = timedelta(seconds=5)
"""A key is held no longer for a table that somebody has locked: that is over soon."""
_OF_OTHERS = {Blame.MOMENT, Blame.LOCK}
"""What costs a job no attempt: somebody else's work is in its way."""

StartsAnother = Callable[[str, set[int]], "list[Exception] | None"]
"""Takes a key, and the ids of its jobs that raised; returns what some others raised, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failed:
    """An attempt that could not begin."""

    claim: Claim
    failure: Failure
    settlement: Settlement


class Unclaimed:
    """Settles the jobs that a claim blamed."""

    def __init__(
        self,
        store: Store,
        works: Works,
        finisher: Finisher,
        held: HeldKeys,
        *,
        node_id: str,
        sources: Sources,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._works = works
        self._finisher = finisher
        self._held = held
        self._node_id = node_id
        self._sources = sources
        self._telemetry = telemetry

    def settle(
        self,
        blamed: Sequence[Blamed],
        *,
        succeeded: set[str],
        starts_another: StartsAnother,
    ) -> list[Ended]:
        """Settle each of *blamed*; return the attempts that this ended.

        Args:
            blamed: Jobs that raised by themselves.
            succeeded: Keys of which some job was taken meanwhile.
            starts_another: Tries others of a key, of which none was.
        """
        self.note_success(succeeded)
        by_key: dict[str, list[Blamed]] = {}
        for one in blamed:
            by_key.setdefault(one.candidate.key, []).append(one)
        ended: list[Ended] = []
        for key, own in by_key.items():
            cause = (
                None
                if key in succeeded
                else self._cause_to_hold(key, own, starts_another)
            )
            if cause is None:
                ended += self._settle_each(own)
            else:
                self._hold(key, cause)
        return ended

    def note_success(self, keys: Iterable[str]) -> None:
        """Hold none of *keys* any longer."""
        for key in set(keys):
            if self._held.release(key):
                log.info("%s is claimed again", key)

    def _cause_to_hold(
        self, key: str, own: Sequence[Blamed], starts_another: StartsAnother
    ) -> Blamed | None:
        """Return the one that says what is wrong with the key; None when its jobs are."""
        for one in own:
            if one.is_table_locked:
                return one
        suspects = [one for one in own if one.blame is not Blame.MOMENT]
        if not suspects:
            return None
        others = starts_another(key, {one.candidate.id for one in own})
        if others is None:
            return None
        alike = Counter(
            likeness_of(error) for error in (*(s.error for s in suspects), *others)
        )
        for one in suspects:
            if one.blame is Blame.KEY or alike[likeness_of(one.error)] >= ENOUGH:
                return one
        return None

    def _hold(self, key: str, cause: Blamed) -> None:
        longest = LONGEST
        reason = self._words(cause.error)
        if cause.is_table_locked:
            longest = LOCKED_FOR
            reason = f"{who_has_locked(self._store)}: {reason}"
        hold = self._held.hold(key, reason, cause.error, longest=longest)
        log.error(
            "no job of %s can be claimed, and none of them is to blame: it is left to other "
            "workers, and tried again in %g s: %s",
            key,
            hold.wait.total_seconds(),
            reason,
        )
        self._telemetry.emit(
            KeyHeld, key=key, reason=reason, seconds=hold.wait.total_seconds()
        )

    def _settle_each(self, own: Sequence[Blamed]) -> list[Ended]:
        ended: list[Ended] = []
        for one in own:
            try:
                ended += self._settle_one(one)
            except Exception as error:
                if is_everyones(error):
                    raise
                # It can neither run nor be put away; without this it would be met for ever.
                self._hold(one.candidate.key, Blamed(one.candidate, error, Blame.KEY))
        return ended

    def _settle_one(self, one: Blamed) -> list[Ended]:
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
                connection, job.id, now + wait, f"waits: {self._words(error)}"
            )
        self._telemetry.emit(JobPostponed, job=job)

    def _leave_to_others(self, job: Job, error: Exception) -> None:
        now = self._sources.clock.now()
        reason = self._words(error)
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
            failed = _stuck(failed, self._words(refusal))
            is_written = self._write(job, failed, moves_record=False)
        if not is_written:
            return []
        settlement = failed.settlement
        return [
            self._finisher.tell(
                failed.claim,
                settlement.edge,
                settlement.state,
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
                self._finisher.steps.run_discard_hook(connection, failed.claim, reason)
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
        reason = f"its row cannot be read: {self._words(error)}"
        with self._transaction() as connection:
            if statements.discard_queued(connection, candidate.id, reason, now):
                statements.record_unread(
                    connection, candidate, failure, node=self._node_id, now=now
                )
        log.error("job %s (%s) is discarded: %s", candidate.id, candidate.key, reason)

    def _words(self, error: BaseException) -> str:
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

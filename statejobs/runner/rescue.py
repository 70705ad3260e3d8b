"""Takes back the jobs of workers that are gone: each by itself, whatever its record does."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum, auto

from sqlalchemy import Connection
from sqlalchemy.exc import StatementError

from statejobs.domain.backoff import safe_delay
from statejobs.domain.clock import Sources
from statejobs.domain.failure import MESSAGE_LIMIT, Failure, describe_failure
from statejobs.domain.job import JobState
from statejobs.domain.lifecycle import STUCK, gives_up
from statejobs.domain.outcome import Crash, Release
from statejobs.domain.text import shown_text
from statejobs.runner.points import CrashPoint, Reach
from statejobs.runner.port import Claim, Work
from statejobs.runner.recorder import Recorder
from statejobs.store.expired import discard_stuck, find_expired, lock_expired, put_aside
from statejobs.store.faults import Fault, fault_of, words_of
from statejobs.store.rows import Expired
from statejobs.store.store import Store
from statejobs.telemetry import Event, Telemetry

log = logging.getLogger("statejobs.runner")

RESCUED_AT_ONCE = 100
"""Jobs that one round takes back, about; the next round then comes at once."""
_FOR_NOW = {Fault.READ_ONLY, Fault.CONFLICT, Fault.LOCKED, Fault.INTERRUPTED, Fault.CODE}
"""Faults that say nothing against the record: another round, or a node of other code, may do it."""


class Became(Enum):
    """What one try to rescue a job came to."""

    RESCUED = auto()
    PUT_ASIDE = auto()
    """Its record cannot be moved back: tried again later, or given up."""
    LEFT = auto()
    """Someone holds it or its record, or was faster."""


class Rescue:
    """Rescues expired jobs for one node; safe to call from several threads."""

    def __init__(
        self, store: Store, work: Work, recorder: Recorder, *, lease: timedelta,
        sources: Sources, telemetry: Telemetry, reach: Reach,
    ) -> None:  # fmt: skip
        self._store, self._work, self._recorder, self._lease = store, work, recorder, lease
        self._sources, self._telemetry, self._reach = sources, telemetry, reach

    def run_once(self) -> int:
        """Take back the jobs whose lease ran out, passing those that cannot be; return how many.

        Raises:
            SQLAlchemyError: The database is away.
        """
        now = self._sources.clock.now()
        rescued = left = 0
        unable: Counter[str] = Counter()
        is_more = True
        while is_more and rescued < RESCUED_AT_ONCE:
            page = find_expired(
                self._store,
                self._work.keys(),
                now,
                lease=self._lease,
                limit=RESCUED_AT_ONCE,
                skip=left,
            )
            for expired in page:
                became = self._rescue(expired, unable)
                rescued += became is Became.RESCUED
                left += became is Became.LEFT
            is_more = len(page) == RESCUED_AT_ONCE
        for words, count in unable.items():
            log.warning("%d expired jobs cannot be rescued for now: %s", count, words)
        return rescued

    def _rescue(self, expired: Expired, unable: Counter[str]) -> Became:
        """Rescue one job in a transaction of its own."""
        claims: list[Claim] = []
        is_last = self._is_last(expired)
        refusal: Exception | None = None
        for outcome in _outcomes(expired, is_last=is_last):
            try:
                return self._take_back(expired, outcome, claims)
            except Exception as error:  # noqa: BLE001 - whatever its record does, the others go on
                if self._is_for_now(error, unable):
                    return Became.LEFT
                refusal = error
        assert refusal is not None  # noqa: S101 - there is always something to try
        return self._refused(expired, refusal, claims, is_last=is_last)

    def _is_for_now(self, error: Exception, unable: Counter[str]) -> bool:
        """Return whether *error* says nothing against the record; raise it when all must wait."""
        fault = fault_of(error)
        if fault is Fault.AWAY:
            raise error
        if fault not in _FOR_NOW:
            return False
        unable[words_of(error)] += 1
        return True

    def _is_last(self, expired: Expired) -> bool:
        policy = self._work.policy(expired.key)
        return gives_up(
            attempt=expired.attempt,
            max_attempts=expired.max_attempts,
            crashes=expired.crashes + 1,
            max_crashes=policy.max_crashes,
        )

    def _take_back(self, expired: Expired, outcome: Crash | Release, claims: list[Claim]) -> Became:
        """Settle the attempt with *outcome*; *claims* takes the claim, once the record is known."""
        with self._store.transaction() as connection:
            now = self._sources.clock.now()
            job = lock_expired(connection, expired.id, now, lease=self._lease)
            subject = self._work.recover(connection, job) if job is not None else None
            if job is None or subject is None:
                return Became.LEFT
            claim = Claim(job=job, subject=subject, policy=self._work.policy(job.key), began=0)
            claims[:] = [claim]
            _, state = self._recorder.settle(connection, claim, outcome)
            self._reach(CrashPoint.RESCUE_BEFORE_COMMIT)
        self._telemetry.emit(Event.JOB_RESCUED, job=job, state=state)
        return Became.RESCUED

    def _refused(
        self,
        expired: Expired,
        error: Exception,
        claims: list[Claim],
        *,
        is_last: bool,
    ) -> Became:
        """Record that the record cannot be moved; try again later while limits last."""
        failure, now = _failure_of(error), self._sources.clock.now()
        with self._store.transaction() as connection:
            if is_last:
                is_ours = self._give_up(connection, expired, failure, now, claims)
            else:
                is_ours = self._put_aside(connection, expired, error, failure, now)
        if not is_ours:
            return Became.LEFT
        log.log(
            logging.ERROR if is_last else logging.WARNING,
            "job %s (%s): its worker is gone, and its record cannot be moved back: %s%s",
            expired.id, expired.key, failure.message,
            _HOW_ON.format(job_id=expired.id) if is_last else "",
            exc_info=None if isinstance(error, StatementError) else error,
        )  # fmt: skip
        if is_last and claims:
            job = claims[0].job
            self._telemetry.emit(Event.JOB_RESCUED, job=job, state=JobState.DISCARDED)
        return Became.PUT_ASIDE

    def _put_aside(
        self,
        connection: Connection,
        expired: Expired,
        error: Exception,
        failure: Failure,
        now: datetime,
    ) -> bool:
        backoff, rng = self._work.policy(expired.key).backoff, self._sources.rng
        wait, _ = safe_delay(backoff, expired.crashes + 1, error, rng)
        token = self._sources.ids()
        if not put_aside(connection, expired, token=token, until=now + wait):
            return False
        self._record(connection, expired, failure, now)
        return True

    def _give_up(
        self,
        connection: Connection,
        expired: Expired,
        failure: Failure,
        now: datetime,
        claims: list[Claim],
    ) -> bool:
        why = f"{STUCK}its record cannot be moved: {failure.message}"
        if not discard_stuck(connection, expired, why=why, now=now):
            return False
        self._record(connection, expired, failure, now)
        for claim in claims:
            self._recorder.run_discard_hook(connection, claim, why)
        return True

    def _record(
        self, connection: Connection, expired: Expired, failure: Failure, now: datetime
    ) -> None:
        message = f"crashed, and its record cannot be moved back: {failure.message}"
        told = replace(failure, message=shown_text(message, MESSAGE_LIMIT))
        self._store.record_attempt(connection, expired, "crashed", now=now, failure=told)


_BACK_AGAIN = Release("rescued: its record can be moved again")
_HOW_ON = (
    "; the job is discarded, and the record stays where it is until: statejobs job retry {job_id}"
)


def _outcomes(expired: Expired, *, is_last: bool) -> Sequence[Crash | Release]:
    """Return what is tried: a crash counts once, so that not the rescue after a refusal too."""
    if expired.owner is not None:
        return (Crash(),)
    return (_BACK_AGAIN, Crash()) if is_last else (_BACK_AGAIN,)


def _failure_of(error: Exception) -> Failure:
    """Describe *error*; of the database's only its own words, not the statement and its values."""
    failure = describe_failure(error)
    if not isinstance(error, StatementError):
        return failure
    return replace(failure, message=shown_text(words_of(error), MESSAGE_LIMIT), traceback="")

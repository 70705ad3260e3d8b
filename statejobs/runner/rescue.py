"""Takes back the jobs of workers that are gone: each by itself, whatever its record does."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from enum import Enum, auto

from statejobs.errors import RecordHiddenError
from statejobs.events import JobRescued
from statejobs.runner.crash_points import CrashPoint, Reach
from statejobs.runner.port import Claim, Ending, Works
from statejobs.runner.refused import Refusal, Refused, tell_of
from statejobs.runner.retries import MOST_OF_CODE
from statejobs.runner.steps import Steps
from statejobs.store.expired import find_expired, lock_expired
from statejobs.store.faults import Fault, fault_of, has_come_from_code, words_of
from statejobs.store.rows import Expired
from statejobs.store.store import TABLE_PATIENCE, Store
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.values.lifecycle import gives_up
from statejobs.values.outcome import Crash, Release

log = logging.getLogger("statejobs.runner")

RESCUED_AT_ONCE = 100
"""Jobs that one round takes back, about; the next round then comes at once."""
_FOR_NOW = {
    Fault.READ_ONLY,
    Fault.CONFLICT,
    Fault.LOCKED,
    Fault.INTERRUPTED,
    Fault.CODE,
}
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
        self,
        store: Store,
        works: Works,
        steps: Steps,
        *,
        lease: timedelta,
        sources: Sources,
        telemetry: Telemetry,
        reach: Reach,
    ) -> None:
        self._store = store
        self._works = works
        self._steps = steps
        self._lease = lease
        self._sources = sources
        self._telemetry = telemetry
        self._reach = reach
        self._refusals = Refused(store, works, steps, sources)
        self._met: Counter[int] = Counter()
        """Job → how many rounds met what code in the database raised for its record."""

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
                self._works.keys(),
                now,
                lease=self._lease,
                limit=RESCUED_AT_ONCE,
                skip=left,
            )
            for expired in page:
                became = self._rescue(expired, unable)
                if became is Became.RESCUED:
                    rescued += 1
                elif became is Became.LEFT:
                    left += 1
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
                became = self._take_back(expired, outcome, claims)
            except Exception as error:  # noqa: BLE001 - whatever its record does, the others go on
                if self._is_for_now(expired.id, error, unable):
                    return Became.LEFT
                refusal = error
            else:
                self._met.pop(expired.id, None)
                return became
        assert refusal is not None  # noqa: S101 - there is always something to try
        return self._refused(expired, refusal, claims, is_last=is_last)

    def _is_for_now(self, job_id: int, error: Exception, unable: Counter[str]) -> bool:
        """Return whether *error* says nothing against the record; raise it when all must wait."""
        fault = fault_of(error)
        if fault is Fault.AWAY:
            raise error
        if fault not in _FOR_NOW and not isinstance(error, RecordHiddenError):
            return False
        if has_come_from_code(error) and self._is_of_row(job_id, fault):
            return False
        unable[words_of(error)] += 1
        return True

    def _is_of_row(self, job_id: int, fault: Fault | None) -> bool:
        """Return whether what code in the database raised for one row is taken for its refusal.

        What else passes is, once it has met that many rounds.
        """
        if fault is Fault.CODE:
            return True
        self._met[job_id] += 1
        return self._met[job_id] >= MOST_OF_CODE

    def _is_last(self, expired: Expired) -> bool:
        policy = self._works.policy(expired.key)
        return gives_up(
            attempt=expired.attempt,
            max_attempts=expired.max_attempts,
            crashes=expired.crashes + 1,
            max_crashes=policy.max_crashes,
        )

    def _take_back(
        self, expired: Expired, outcome: Crash | Release, claims: list[Claim]
    ) -> Became:
        """Settle the attempt with *outcome*; *claims* takes the claim, once the record is known."""
        with self._store.transaction(lock_timeout=TABLE_PATIENCE) as connection:
            now = self._sources.clock.now()
            job = lock_expired(connection, expired.id, now, lease=self._lease)
            subject = (
                self._works.of(job.key).recover(connection, job)
                if job is not None
                else None
            )
            if job is None or subject is None:
                return Became.LEFT
            claim = Claim(
                job=job,
                subject=subject,
                policy=self._works.policy(job.key),
                work=self._works.of(job.key),
                began=0,
            )
            claims[:] = [claim]
            settled = self._steps.take(connection, Ending(claim, outcome))
            self._reach(CrashPoint.RESCUE_BEFORE_COMMIT)
        self._telemetry.emit(
            JobRescued, job=job, state=settled.state, job_outcome=settled.job_outcome
        )
        return Became.RESCUED

    def _refused(
        self, expired: Expired, error: Exception, claims: list[Claim], *, is_last: bool
    ) -> Became:
        """Record that the record cannot be moved; try again later while limits last."""
        refusal = Refusal(
            job=expired,
            error=error,
            is_last=is_last,
            step=expired.crashes + 1,
            is_crash=True,
            redaction=self._store.redaction,
        )
        claim = claims[0] if claims else None
        with self._store.transaction(lock_timeout=TABLE_PATIENCE) as connection:
            aside = self._refusals.write(connection, refusal, claim)
            if aside is None:
                return Became.LEFT
        tell_of(refusal)
        if is_last and claim is not None:
            self._telemetry.emit(
                JobRescued,
                job=claim.job,
                state=aside.state,
                job_outcome=aside.job_outcome,
            )
        return Became.PUT_ASIDE


_BACK_AGAIN = Release("rescued: its record can be moved again")
_GIVEN_UP = Crash("given up: its record could not be moved back")


def _outcomes(expired: Expired, *, is_last: bool) -> Sequence[Crash | Release]:
    """Return what is tried: a crash counts once, so that not the rescue after a refusal too."""
    if expired.owner is not None:
        return (Crash(),)
    return (_BACK_AGAIN, _GIVEN_UP) if is_last else (_BACK_AGAIN,)

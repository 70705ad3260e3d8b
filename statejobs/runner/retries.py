"""Asks the database again while it cannot, for as long as the job may be ours."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from statejobs.errors import RowRefusedError
from statejobs.runner.port import Claim
from statejobs.runner.undone import described, judged, passes
from statejobs.store.faults import is_away, may_last, words_of
from statejobs.store.finish import find_settled
from statejobs.store.store import Store
from statejobs.values.clock import Sources
from statejobs.values.job import JobState
from statejobs.values.outcome import Fail, GiveBack, Outcome

R = TypeVar("R")

# seconds between tries of a database that is away
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
MOST_OF_CODE = 10
"""How often what code in the database raised is taken for a fault that passes."""


class Retries:
    """What a finisher does about faults that pass."""

    def __init__(self, store: Store, *, lease: timedelta, sources: Sources) -> None:
        self._store = store
        self._lease = lease
        self._sources = sources

    def judge(self, claim: Claim, outcome: Outcome) -> Outcome:
        """Return *outcome* as the app tells errors, and as the database's fault when it is."""
        outcome = described(outcome, self._store.redaction)
        if claim.is_dropped and isinstance(outcome, Fail):
            return GiveBack(failure=outcome.failure, error=outcome.error)
        took = self._sources.clock.monotonic() - claim.began
        return judged(
            outcome, lambda error: self._store.witness.was_everyones(error, within=took)
        )

    def insist(
        self, claim: Claim, act: Callable[[], R], *, since: float | None = None
    ) -> R:
        """Return what *act* returns, once the database bears it.

        While the lease is renewed it is tried for good; else until the lease would be over that
        began now, or at *since*.

        Raises:
            RowRefusedError: What code in the database raised did not pass.
        """
        began = self._sources.clock.monotonic() if since is None else since
        give_up_at = began + self._lease.total_seconds()
        pause = _FIRST_PAUSE
        of_code = 0
        while True:
            try:
                return act()
            except SQLAlchemyError as error:
                claim.is_unsure |= is_away(error)
                is_over = self._sources.clock.monotonic() > give_up_at
                if not passes(error) or (is_over and not claim.is_kept):
                    raise
                of_code += may_last(error)
                if of_code == MOST_OF_CODE:
                    raise RowRefusedError(words_of(error), times=of_code) from error
                self._sources.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def find_unsure(self, claim: Claim) -> tuple[JobState, int] | None:
        """Return state and attempt of a job whose end may have landed, its answer lost."""
        if not claim.is_unsure:
            return None
        try:
            return self.insist(claim, lambda: find_settled(self._store, claim.job))
        except (SQLAlchemyError, RowRefusedError):
            return None

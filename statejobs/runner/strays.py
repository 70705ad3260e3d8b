"""Gives back jobs that are this node's in the database only, since their claim was not answered.

Nobody runs them, and while the node beats nobody rescues them. The action never began, so neither
an attempt nor a crash is counted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from statejobs.config import WorkerSettings
from statejobs.runner.crash_points import CrashPoint, Reach, live_on
from statejobs.runner.port import Claim, Ending, Works
from statejobs.runner.steps import Steps
from statejobs.store.faults import is_away
from statejobs.store.hold import find_owned, lock_claimed
from statejobs.store.store import TABLE_PATIENCE, Store
from statejobs.values.clock import Sources
from statejobs.values.failure import Failure
from statejobs.values.outcome import GiveBack

log = logging.getLogger("statejobs.runner")

_UNANSWERED = GiveBack(
    failure=Failure(
        error_type="UnansweredClaim",
        message="the answer to the claim of this job was lost, and so it was not run",
        traceback="",
    )
)


class Strays:
    """Finds and gives back what a node does not know that it holds; safe between threads."""

    def __init__(
        self,
        store: Store,
        works: Works,
        steps: Steps,
        *,
        node_id: str,
        settings: WorkerSettings,
        sources: Sources,
        reach: Reach = live_on,
    ) -> None:
        self._store = store
        self._works = works
        self._steps = steps
        self._node_id = node_id
        self._settings = settings
        self._sources = sources
        self._reach = reach
        self._tried = threading.local()
        self._unanswered: set[str] = set()
        """Tokens of claims that may have landed."""
        self._asked: set[str] = set()
        """Tokens of claims whose answer is waited for."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch a claim: when it is not answered, what it took is given back, now or later."""
        self._give_back_unanswered()
        self._tried.tokens = []
        try:
            yield
        except SQLAlchemyError as error:
            if is_away(error):  # any other is an answer: nothing was committed
                self._unanswered.update(self._tried.tokens)
            try:
                self._give_back_unanswered()
            except SQLAlchemyError as again:
                log.debug("what a claim may have taken is given back later: %s", again)
            raise
        finally:
            self._asked.difference_update(self._tried.tokens)

    def note(self, token: str) -> None:
        """Note that the claim which is watched in this thread uses *token*."""
        self._tried.tokens.append(token)
        self._asked.add(token)

    def give_back_unheld(self, held: Collection[Claim]) -> int:
        """Give back the jobs of this node that are not among *held*; return how many.

        Only those whose lease has not been renewed for half its time: what was claimed a moment
        ago may be on its way into *held*, and what has just ended is held no more.
        """
        known = {(claim.job.id, claim.job.token) for claim in held}
        before = self._sources.clock.now() + self._settings.lease / 2
        owned = find_owned(self._store, self._node_id, before)
        strays = [
            one for one in owned if one not in known and one[1] not in self._asked
        ]
        return sum(self._try_to_give_back(*one) for one in strays)

    def _give_back_unanswered(self) -> None:
        if not self._unanswered:
            return
        tokens = set(self._unanswered)
        ever = self._sources.clock.now() + 2 * self._settings.lease
        for job_id, token in find_owned(self._store, self._node_id, ever):
            if token in tokens:
                self._try_to_give_back(job_id, token)
        self._unanswered -= tokens

    def _try_to_give_back(self, job_id: int, token: str) -> bool:
        """Give back one; what its record refuses is for the rescue, and holds up no other."""
        try:
            return self._give_back(job_id, token)
        except Exception as error:
            if is_away(error):
                raise
            log.debug("job %s cannot be given back: %s", job_id, error)
            return False

    def _give_back(self, job_id: int, token: str) -> bool:
        with self._store.transaction(lock_timeout=TABLE_PATIENCE) as connection:
            job = lock_claimed(connection, job_id, token)
            subject = (
                self._works.of(job.key).recover(connection, job)
                if job is not None
                else None
            )
            if job is None or subject is None:
                return False  # it ended, or someone holds it or its record: the next heartbeat
            claim = Claim(
                job=job,
                subject=subject,
                policy=self._works.policy(job.key),
                work=self._works.of(job.key),
                began=0,
            )
            self._steps.take(connection, Ending(claim, _UNANSWERED))
            self._reach(CrashPoint.FINISH_BEFORE_COMMIT)
        log.warning(
            "job %s (%s) was claimed without an answer: given back", job.id, job.key
        )
        return True

"""Runs the bodies of claims, and commits those that wrote more than a finish can write for them.

Many that share a call run once more, each by itself, when nothing of that call is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from typing import Any, ParamSpec, TypeVar

from statejobs.errors import RecordHiddenError
from statejobs.events import JobAbandoned, JobStarted
from statejobs.runner.crash_points import CrashPoint, Reach
from statejobs.runner.deadline import call_within, call_within_async
from statejobs.runner.drive import Driven, drive, drive_async
from statejobs.runner.ended import Ended
from statejobs.runner.finisher import Finisher, outcome_after
from statejobs.runner.port import Attempt, Claim, Ending
from statejobs.runner.undone import ours
from statejobs.store.faults import may_last
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.values.outcome import Complete, Fail, GiveBack, Late, Outcome, Superseded

log = logging.getLogger("statejobs.runner")

P = ParamSpec("P")
R = TypeVar("R")
Result = Ended | Ending
"""How an attempt ended; or how it ends, which is still to be recorded."""

_MOST_ASIDE = 64  # ends of `async def` attempts at once


class Attempts:
    """Attempts claims; safe to call from several threads."""

    def __init__(
        self,
        finisher: Finisher,
        *,
        grace: timedelta,
        sources: Sources,
        telemetry: Telemetry,
        reach: Reach,
    ) -> None:
        """Make it.

        Args:
            finisher: Commits what is written through the session of an attempt.
            grace: How long a body may go on after its timeout, or after it was asked to stop.
            sources: The clock.
            telemetry: Is told that attempts begin.
            reach: Is called when a body has returned.
        """
        self.on_abandoned: Callable[[Claim], None] = lambda _claim: None
        """Called when a thread went on after it was to stop."""
        self._finisher = finisher
        self._telemetry = telemetry
        self._reach = reach
        self._clock = sources.clock
        self._wait = sources.wait
        self._grace = grace
        # Apart from the threads of asyncio: so many may wait for locks, and hold up nobody's.
        self._aside = ThreadPoolExecutor(
            _MOST_ASIDE, thread_name_prefix="statejobs-end"
        )

    def run(self, claims: Sequence[Claim]) -> Iterator[Result] | Sequence[Result]:
        """Call a `def` body for *claims*, which are of one kind; return how each ended.

        A claim counts as one attempt, whether its body ran once or, after the call for all, again.
        """
        attempt = self._open(claims)
        try:
            call = partial(
                call_within,
                attempt,
                self._grace,
                on_abandoned=self.abandon,
                wait=self._wait,
            )
            found = drive(self._attempted(attempt, call))
        finally:
            attempt.close()
        return self._one_by_one(claims) if found is None else found

    async def run_async(self, claims: Sequence[Claim]) -> Sequence[Result]:
        """Await an `async def` body for the one claim of *claims*; return how it ended."""
        attempt = self._open(claims)
        try:
            call = partial(call_within_async, attempt, self._grace)
            return await drive_async(self._attempted(attempt, call)) or ()
        finally:
            await attempt.close()

    def abandon(self, claim: Claim) -> None:
        """Tell that the thread of an attempt went on after it was to stop."""
        self._telemetry.emit(JobAbandoned, job=claim.job)
        self.on_abandoned(claim)

    async def aside(
        self, finish: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Return what *finish* returns, which may wait for locks; the event loop goes on."""
        call = partial(copy_context().run, finish, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._aside, call)

    def close(self) -> None:
        """End the idle threads."""
        self._aside.shutdown(wait=False)

    def _open(self, claims: Sequence[Claim]) -> Attempt:
        """Note and tell that an attempt of each begins, and open it.

        One that runs again, after a call for many, began with that.
        """
        for claim in claims:
            if not claim.has_begun:
                self._telemetry.emit(JobStarted, job=claim.job)
                claim.has_begun = True
            claim.began = self._clock.monotonic()
            claim.duration = None
        return claims[0].work.open(claims, self._clock.now())

    def _attempted(
        self, attempt: Attempt, call: Callable[[], Any]
    ) -> Driven[Sequence[Result] | None]:
        """Attempt; None when nothing of a call for many was kept: each is run by itself then."""
        claims = attempt.claims
        called: Outcome = yield call
        for claim in claims:
            if claim.duration is None:  # those of a batch know their own
                claim.duration = self._clock.monotonic() - claim.began
        self._reach(CrashPoint.BODY_RETURNED)
        is_many = len(claims) > 1 and not attempt.is_abandoned
        if is_many and _falls_apart(claims, called):
            return None
        endings = [Ending(claim, called) for claim in claims]
        try:
            endings = attempt.endings(called)
            if not attempt.needs_session:
                return endings
            commit = partial(self._finisher.finish_within, endings=endings)
            ended: list[Ended] = yield partial(attempt.in_session, commit)
        except Exception as error:  # noqa: BLE001 - whatever the commit met ends the attempt
            met = outcome_after(error)
        else:
            return ended
        if is_many and _falls_apart(claims, met):
            return None
        return [Ending(end.claim, _own_or(met, end, claims)) for end in endings]

    def _one_by_one(self, claims: Sequence[Claim]) -> Iterator[Result]:
        try:
            with ours():
                standing = claims[0].work.reload(claims)
        except Exception as error:  # noqa: BLE001 - the database is away
            yield from [Ending(claim, outcome_after(error)) for claim in claims]
            return
        for claim in claims:
            if claim.is_lost or claim.is_settled:
                yield self._finisher.late(claim)
            elif claim.job.id not in standing:
                yield Ending(claim, Superseded("the record was moved away"))
            else:
                yield from self.run((claim,))


def _falls_apart(claims: Sequence[Claim], met: Outcome) -> bool:
    """Return whether a call for many came to nothing by what may concern one of them alone."""
    if not _is_of_one(met):
        return False
    level = logging.WARNING
    reason = "a late result"
    if isinstance(met, Superseded):  # a transition of the user's: nobody has to look
        level = logging.INFO
        reason = met.reason
    elif isinstance(met, Fail | GiveBack):
        reason = met.failure.error_type
    log.log(
        level,
        "a call for %d jobs of %s came to nothing (%s): they are run one by one",
        len(claims),
        claims[0].job.key,
        reason,
    )
    return True


def _is_of_one(met: Outcome) -> bool:
    match met:
        case Late() | Fail() | Superseded():
            return True
        case GiveBack(error=error):
            return isinstance(error, RecordHiddenError) or (
                error is not None and may_last(error)
            )
        case _:
            return False


def _own_or(met: Outcome, ending: Ending, claims: Sequence[Claim]) -> Outcome:
    """Return how an attempt ends whose commit *met* that: one that failed anyway, as it did."""
    is_own = len(claims) == 1 and not isinstance(ending.outcome, Complete)
    return ending.outcome if is_own else met

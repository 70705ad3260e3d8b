"""Attempts that take too long are asked to stop, and then given up."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from datetime import timedelta

from statejobs.errors import WrongValueError
from statejobs.runner.port import Attempt, Claim
from statejobs.values.backoff import LONGEST
from statejobs.values.clock import Wait
from statejobs.values.failure import describe_failure
from statejobs.values.job import Job
from statejobs.values.kinds import check_span
from statejobs.values.outcome import Fail, Outcome
from statejobs.values.unrun import ran

log = logging.getLogger("statejobs.runner")


def call_within(
    attempt: Attempt,
    grace: timedelta,
    *,
    on_abandoned: Callable[[Claim], None],
    wait: Wait,
) -> Outcome:
    """Call a sync body under its timeout, in a thread of its own when it has one.

    It has a context of its own. A thread cannot be stopped from outside: when the time is up it is
    asked through `ctx.cancel_requested`; after *grace* it is abandoned, and whatever it still does
    is late.
    """
    claims = attempt.claims
    if claims[0].policy.timeout is not None:
        timeout = _note_timeout(claims)
        if isinstance(timeout, Fail):
            return timeout
        if timeout is not None:
            return _call_in_a_thread(attempt, timeout, grace, on_abandoned, wait)
    process = os.getpid()
    outcome: Outcome = copy_context().run(attempt.call)
    if os.getpid() != process:
        end_copy(claims[0])
    return outcome


def _note_timeout(claims: Sequence[Claim]) -> timedelta | Fail | None:
    """Return how long a body may take for all of *claims*, and note it; the longest holds.

    A function of the user's that cannot tell has failed the attempt.
    """
    policy = claims[0].policy
    if not callable(policy.timeout):
        timeout = policy.timeout
    else:
        try:
            timeout = _longest(policy.timeout, [claim.job for claim in claims])
        except BaseException as error:  # noqa: BLE001 - sys.exit must not end the worker
            return Fail(failure=describe_failure(error), error=error)
    for claim in claims:
        claim.timeout = timeout
    return timeout


def _longest(
    function: Callable[[Job], timedelta | None], jobs: Sequence[Job]
) -> timedelta | None:
    spans = []
    for job in jobs:
        span = ran(function(job), "timeout= of", job.key)
        check_span(f"what timeout= of {job.key!r} returned", span, or_none=True)
        if span is None:
            return None
        if span <= timedelta():
            raise WrongValueError(
                f"timeout= of {job.key!r} returned {span}",
                why="the attempt would end before it began",
                fix="return a positive timedelta, or None for no timeout",
            )
        spans.append(min(span, LONGEST))
    return max(spans)


def _call_in_a_thread(
    attempt: Attempt,
    timeout: timedelta,
    grace: timedelta,
    on_abandoned: Callable[[Claim], None],
    wait: Wait,
) -> Outcome:
    claims = attempt.claims
    process = os.getpid()
    returned: list[Outcome] = []
    has_ended = threading.Event()

    def call_here() -> None:
        try:
            outcome: Outcome = attempt.call()
            if os.getpid() != process:
                end_copy(claims[0])
            returned.append(outcome)
        finally:
            has_ended.set()

    threading.Thread(target=call_here, name=_task_name(claims[0]), daemon=True).start()
    wait(has_ended, timeout.total_seconds())
    if returned:
        return returned[0]
    for claim in claims:
        claim.signal.set(_too_long(timeout))
    if not wait(has_ended, grace.total_seconds()):
        attempt.is_abandoned = True
        for claim in claims:
            on_abandoned(claim)
    return _timed_out(timeout)


async def call_within_async(attempt: Attempt, grace: timedelta) -> Outcome:
    """Await an async body under its timeout; when the time is up it is cancelled.

    It has a task of its own, so that no other attempt sees what it does to its context.
    A body that blocks the loop blocks this as well: `give_up_blocking` is called from elsewhere.
    """
    (claim,) = attempt.claims
    timeout = _note_timeout((claim,))
    if isinstance(timeout, Fail):
        return timeout
    process = os.getpid()

    async def call_here() -> Outcome:
        outcome: Outcome = await attempt.call()
        if os.getpid() != process:
            end_copy(claim)
        return outcome

    task = asyncio.create_task(call_here(), name=_task_name(claim))
    if timeout is None:
        return await task
    done, _ = await asyncio.wait({task}, timeout=timeout.total_seconds())
    if done:
        return task.result()
    claim.signal.set(_too_long(timeout))
    task.cancel()
    await asyncio.wait({task}, timeout=grace.total_seconds())
    return _timed_out(timeout)


def find_blocking(
    claims: Sequence[Claim], task: str | None, now: float, grace: timedelta
) -> Claim | None:
    """Return the claim whose body has kept the event loop to itself until long after its timeout.

    Args:
        claims: Those that run.
        task: Name of the task that the loop is in.
        now: Monotonic seconds.
        grace: How long a body may go on after its timeout.
    """
    for claim in claims:
        timeout = claim.timeout
        if timeout is not None and claim.policy.is_async and _task_name(claim) == task:
            is_over = (
                now - claim.began > (timeout + grace).total_seconds() + _UNBLOCKS_WITHIN
            )
            return claim if is_over else None
    return None


def give_up_blocking(claim: Claim) -> Outcome:
    """Give up a body that lets nobody cancel it; return how its attempt ended."""
    timeout = claim.timeout or timedelta()
    claim.signal.set(_too_long(timeout))
    return _timed_out(timeout)


def end_copy(claim: Claim) -> None:
    """End this process, a copy of the worker that the body of *claim* forked.

    It shares the worker's connections, and would garble them.
    """
    log.error(
        "job %s (%s) forked, and its copy returned: it ends",
        claim.job.id,
        claim.job.key,
    )
    os._exit(1)


def _task_name(claim: Claim) -> str:
    return f"statejobs-job-{claim.job.id}"


def _timed_out(timeout: timedelta) -> Fail:
    error = TimeoutError(_too_long(timeout))
    return Fail(failure=describe_failure(error), error=error)


def _too_long(timeout: timedelta) -> str:
    return f"no end after {timeout.total_seconds():g} s, its timeout"


# seconds: the loop itself ends the attempt at the end of the grace
_UNBLOCKS_WITHIN = 1.0

"""Attempts that take too long, or go on though somebody wants them to stop, are given up."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from datetime import timedelta
from functools import partial

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

    claims[0].stop = has_ended.set  # called for none that shares its call
    threading.Thread(target=call_here, name=_task_name(claims[0]), daemon=True).start()
    wait(has_ended, timeout.total_seconds())
    if returned:
        return returned[0]
    is_stopped = claims[0].stopped_at is not None
    for claim in claims:
        claim.signal.set(_too_long(timeout))
    if is_stopped or not wait(has_ended, grace.total_seconds()):
        attempt.is_abandoned = True
        for claim in claims:
            on_abandoned(claim)
    return went_on(grace) if is_stopped else _timed_out(timeout)


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
        claim.stop = partial(loop.call_soon_threadsafe, task.cancel)
        outcome: Outcome = await attempt.call()
        if os.getpid() != process:
            end_copy(claim)
        return outcome

    loop = asyncio.get_running_loop()
    task = loop.create_task(call_here(), name=_task_name(claim))
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
    """Return the claim whose body has kept the event loop to itself until long after its end.

    Args:
        claims: Those that run.
        task: Name of the task that the loop is in.
        now: Monotonic seconds.
        grace: How long a body may go on after its timeout, or after it was asked to stop.
    """
    for claim in claims:
        if claim.policy.is_async and _task_name(claim) == task:
            ends = _last_moment(claim, grace.total_seconds())
            is_over = ends is not None and now > ends + _UNBLOCKS_WITHIN
            return claim if is_over else None
    return None


def _last_moment(claim: Claim, grace: float) -> float | None:
    """Return when at the latest a body lets go of the loop that can be cancelled on it."""
    moments = []
    if claim.timeout is not None:
        moments.append(claim.began + claim.timeout.total_seconds() + grace)
    if claim.asked_at is not None:
        moments.append(max(claim.began, claim.asked_at) + 2 * grace)
    return min(moments, default=None)


def give_up_blocking(claim: Claim, grace: timedelta) -> Outcome:
    """Give up a body that lets nobody cancel it; return how its attempt ended."""
    if claim.timeout is None:
        return went_on(grace)
    claim.signal.set(_too_long(claim.timeout))
    return _timed_out(claim.timeout)


def is_task_of(claim: Claim, task: str | None) -> bool:
    """Return whether the task of that name runs the body of *claim*."""
    return _task_name(claim) == task


def went_on(grace: timedelta) -> Fail:
    """Return the outcome of a body that went on though somebody wanted it to stop."""
    error = TimeoutError(
        f"no end within {grace.total_seconds():g} s after it was asked to stop"
    )
    return Fail(failure=describe_failure(error), error=error)


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

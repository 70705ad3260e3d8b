"""Attempts that take too long are asked to stop, and then given up."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

from statejobs.runner.port import Claim
from statejobs.values.failure import describe_failure
from statejobs.values.outcome import Fail, Outcome

log = logging.getLogger("statejobs.runner")


def call_within(
    call: Callable[[], Outcome],
    claims: Sequence[Claim],
    grace: timedelta,
    *,
    on_abandoned: Callable[[Claim], None],
) -> Outcome:
    """Call a sync body under the timeout of *claims*, in a thread of its own when it has one.

    A thread cannot be stopped from outside: when the time is up it is asked through
    `ctx.cancel_requested`; after *grace* it is abandoned, and whatever it still does is late.
    """
    timeout, process = claims[0].policy.timeout, os.getpid()

    def call_here() -> Outcome:
        outcome = call()
        end_copy_of(process, claims[0])
        return outcome

    if timeout is None:
        return call_here()
    ended: list[Outcome] = []
    thread = threading.Thread(
        target=lambda: ended.append(call_here()), name=_task_name(claims[0]), daemon=True
    )
    thread.start()
    thread.join(timeout.total_seconds())
    if ended:
        return ended[0]
    for claim in claims:
        claim.signal.set(_too_long(timeout))
    thread.join(grace.total_seconds())
    if thread.is_alive():
        for claim in claims:
            claim.is_abandoned = True
            on_abandoned(claim)
    return _timed_out(timeout)


async def call_within_async(
    call: Callable[[], Coroutine[Any, Any, Outcome]], claim: Claim, grace: timedelta
) -> Outcome:
    """Await an async body under the timeout of *claim*; when the time is up it is cancelled.

    It has a task of its own, so that no other attempt sees what it does to its context.
    A body that blocks the loop blocks this as well: `give_up_blocking` is called from elsewhere.
    """
    timeout, process = claim.policy.timeout, os.getpid()

    async def call_here() -> Outcome:
        outcome = await call()
        end_copy_of(process, claim)
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
        timeout = claim.policy.timeout
        if timeout is not None and claim.policy.is_async and _task_name(claim) == task:
            is_over = now - claim.began > (timeout + grace).total_seconds() + _UNBLOCKS_WITHIN
            return claim if is_over else None
    return None


def give_up_blocking(claim: Claim) -> Outcome:
    """Abandon a body that lets nobody cancel it; return how its attempt ended."""
    timeout = claim.policy.timeout or timedelta()
    claim.is_abandoned = True
    claim.signal.set(_too_long(timeout))
    return _timed_out(timeout)


def end_copy_of(process: int, claim: Claim) -> None:
    """End, if this is no longer *process*.

    A copy of the worker that a body forked shares its connections, and would garble them.
    """
    if os.getpid() != process:
        log.error("job %s (%s) forked, and its copy returned: it ends", claim.job.id, claim.job.key)
        os._exit(1)


def _task_name(claim: Claim) -> str:
    return f"statejobs-job-{claim.job.id}"


def _timed_out(timeout: timedelta) -> Fail:
    error = TimeoutError(_too_long(timeout))
    return Fail(failure=describe_failure(error), error=error)


def _too_long(timeout: timedelta) -> str:
    return f"no end after {timeout.total_seconds():g} s, its timeout"


_UNBLOCKS_WITHIN = 1.0  # seconds: the loop itself ends the attempt at the end of the grace

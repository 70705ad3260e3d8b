"""Attempts that take too long are asked to stop, and then given up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from statejobs.domain.failure import describe_failure
from statejobs.domain.outcome import Fail, Outcome
from statejobs.runner.port import Claim


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
    timeout = claims[0].policy.timeout
    if timeout is None:
        return call()
    ended: list[Outcome] = []
    thread = threading.Thread(
        target=lambda: ended.append(call()), name=f"statejobs-job-{claims[0].job.id}", daemon=True
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
    call: Callable[[], Awaitable[Outcome]], claim: Claim, grace: timedelta
) -> Outcome:
    """Await an async body under the timeout of *claim*; when the time is up it is cancelled."""
    timeout = claim.policy.timeout
    if timeout is None:
        return await call()
    task = asyncio.ensure_future(call())
    done, _ = await asyncio.wait({task}, timeout=timeout.total_seconds())
    if done:
        return task.result()
    claim.signal.set(_too_long(timeout))
    task.cancel()
    await asyncio.wait({task}, timeout=grace.total_seconds())
    return _timed_out(timeout)


def _timed_out(timeout: timedelta) -> Fail:
    error = TimeoutError(_too_long(timeout))
    return Fail(failure=describe_failure(error), error=error)


def _too_long(timeout: timedelta) -> str:
    return f"no end after {timeout.total_seconds():g} s, its timeout"

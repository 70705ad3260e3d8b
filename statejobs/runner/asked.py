"""Ends bodies that go on though somebody wanted them to stop a grace ago.

A task is cancelled; a thread cannot be stopped, and is given up: its slot serves others, and
whatever it still does is late. Those that share a call with others are left to see the request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial

from statejobs.runner.deadline import is_task_of, went_on
from statejobs.runner.executors import LoopThread, Threads
from statejobs.runner.keeper import HeldClaims
from statejobs.runner.lane import Lane
from statejobs.runner.port import Claim, Ending, Phase
from statejobs.runner.runner import Runner

log = logging.getLogger("statejobs.worker")


class Asked:
    """The claims that somebody wants to stop, of those that are held."""

    def __init__(
        self,
        runner: Runner,
        held: HeldClaims,
        *,
        lanes: Mapping[str, Lane],
        threads: Threads,
        loop_thread: LoopThread,
        on_ended: Callable[[Iterable[Claim]], None],
    ) -> None:
        """Make it.

        Args:
            runner: The engine.
            held: The claims that are held.
            lanes: Queue → its lane.
            threads: Where the end of what is given up is recorded.
            loop_thread: Where `async def` bodies run.
            on_ended: Called with those whose end is recorded.
        """
        self._runner = runner
        self._held = held
        self._lanes = lanes
        self._threads = threads
        self._loop_thread = loop_thread
        self._on_ended = on_ended
        self._grace = runner.settings.timeout_grace

    def end_overdue(self) -> None:
        """Stop each whose grace is over, or give it up."""
        now = self._runner.sources.clock.monotonic()
        for claim in self._held.all():
            if is_overdue(claim, now, self._grace):
                self._end(claim, now)

    def _end(self, claim: Claim, now: float) -> None:
        if claim.stopped_at is None:
            claim.stopped_at = now
            if claim.stop is not None:
                claim.stop()
            elif not claim.policy.is_async:
                self._give_up(claim)
        elif claim.policy.is_async and self._minds_no_cancel(claim, now):
            claim.stopped_at = float("inf")
            self._give_up(claim)

    def _minds_no_cancel(self, claim: Claim, now: float) -> bool:
        """Return whether a task goes on that was cancelled, and does not block the loop."""
        stopped_at = claim.stopped_at or now
        is_blocking = is_task_of(claim, self._loop_thread.running_task)
        return now - stopped_at > self._grace.total_seconds() and not is_blocking

    def _give_up(self, claim: Claim) -> None:
        if not self._lanes[claim.job.queue].lose(claim):
            return  # it has just come back
        if not claim.policy.is_async:
            self._runner.attempts.abandon(claim)
        self._threads.submit(partial(self._finish, claim))

    def _finish(self, claim: Claim) -> None:
        """Record the end of *claim*, which may wait for what its body has locked."""
        try:
            ended = self._runner.finisher.finish(Ending(claim, went_on(self._grace)))
        except Exception:  # its lease ends, and it is rescued
            log.exception("job %s could not be given up", claim.job.id)
        else:
            if ended.state is None:
                return  # its body has come to its end after all, and that is recorded
        self._on_ended([claim])


def is_overdue(claim: Claim, now: float, grace: timedelta) -> bool:
    """Return whether the body of *claim* goes on, and was asked to stop longer than *grace* ago."""
    if claim.asked_at is None or not claim.has_begun:
        return False
    if claim.phase is not Phase.HELD or claim.policy.chunk is not None:
        return False
    return now - max(claim.asked_at, claim.began) > grace.total_seconds()

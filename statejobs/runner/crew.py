"""Runs claimed jobs: `def` actions on threads, `async def` on one loop, successes committed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from statejobs.acting import act_as_system
from statejobs.config import WorkerSettings
from statejobs.runner.asked import Asked
from statejobs.runner.calls import Call, calls_of
from statejobs.runner.committer import Committer
from statejobs.runner.deadline import find_blocking, give_up_blocking
from statejobs.runner.drive import Driven, drive, drive_async
from statejobs.runner.ended import Ended
from statejobs.runner.executors import (
    DaemonThreads,
    LastOnLoop,
    LoopThread,
    OnLoopBlocked,
    Threads,
    run_all,
)
from statejobs.runner.keeper import HeldClaims
from statejobs.runner.lane import Lane
from statejobs.runner.lifespan import Lifespan
from statejobs.runner.port import Claim, Ending
from statejobs.runner.runner import Runner
from statejobs.runner.singly import MOST, Singly
from statejobs.store.engines.reserve import most_waiting
from statejobs.values.outcome import Complete

log = logging.getLogger("statejobs.worker")

_MOST = 8  # jobs that are given back at once


class Crew:
    """The slots of a worker, in a lane for each queue."""

    def __init__(
        self,
        runner: Runner,
        held: HeldClaims,
        queues: Mapping[str, int],
        *,
        settings: WorkerSettings,
        on_low: Callable[[], None],
        on_due: Callable[[datetime], None],
        threads: Threads | None = None,
        loop_thread: LoopThread | None = None,
        on_loop_end: LastOnLoop | None = None,
        on_loop_blocked: OnLoopBlocked | None = None,
        lifespan: Lifespan | None = None,
    ) -> None:
        """Make a crew; `start` begins.

        Args:
            runner: The engine.
            held: The claims whose leases are renewed, until their outcome is recorded.
            queues: How many jobs of each queue may run at once.
            settings: Sizes of batches.
            on_low: Called when there may be room for more.
            on_due: Called with the time at which a job that ran here runs again.
            threads: Where `def` actions run.
            loop_thread: Where `async def` actions run.
            on_loop_end: Awaited on that loop when it ends, to close what belongs to it.
            on_loop_blocked: Called when a body blocks that loop for good.
            lifespan: What is kept open on that loop meanwhile.
        """
        self._runner = runner
        self._held = held
        self._on_due = on_due
        self._on_low = on_low
        self._clock = runner.sources.clock
        self._threads = threads or DaemonThreads()
        self._loop_thread = loop_thread or LoopThread()
        self._on_loop_end = on_loop_end
        self._on_loop_blocked = on_loop_blocked
        self._is_loop_blocked = False
        self._lifespan = lifespan
        self._commits_together = settings.finish_batch > 1
        self._singly = Singly(
            runner.finisher,
            self._threads,
            on_ended=self._end_single,
            most=min(MOST, most_waiting(runner.store.engine) or MOST),
        )
        self._committer = Committer(
            runner.finisher,
            most=settings.finish_batch,
            on_ended=self._end,
            on_left=self._singly.put,
        )
        self.lanes = [
            Lane(
                queue,
                limit,
                most_ahead=settings.claim_batch,
                most_together=settings.finish_batch,
                start_server=self._start_server,
                on_low=on_low,
            )
            for queue, limit in queues.items()
        ]
        self._lane_of = {lane.queue: lane for lane in self.lanes}
        self._asked = Asked(
            runner,
            held,
            lanes=self._lane_of,
            threads=self._threads,
            loop_thread=self._loop_thread,
            on_ended=self._end,
        )

    def open(self) -> None:
        """Open what the app keeps open in each worker.

        Raises:
            BaseException: As it raised.
        """
        if self._lifespan is None:
            return
        try:
            self._lifespan.enter(self._loop_thread)
        except BaseException:
            self._loop_thread.stop(self._on_loop_end)
            raise

    def start(self) -> None:
        """Begin to commit."""
        self._committer.start()

    def put(self, lane: Lane, claims: Sequence[Claim]) -> None:
        """Run *claims* as the slots of *lane* get free."""
        self._held.add(claims)
        lane.put(calls_of(claims))

    def give_back_waiting(self) -> None:
        """Release every job that waits for a slot; its attempt does not count."""
        self._give_back(call for lane in self.lanes for call in lane.pop_all())

    def give_back_overdue(self) -> None:
        """Release the jobs that have waited too long for a slot, for workers with free ones."""
        now = self._clock.monotonic()
        self._give_back(call for lane in self.lanes for call in lane.pop_overdue(now))

    def end_overdue(self) -> None:
        """End what goes on though it was asked to stop, or blocks the event loop."""
        self._asked.end_overdue()
        self._end_blocking()

    def _end_blocking(self) -> None:
        """Fail the attempt that blocks the event loop past its timeout.

        The others on that loop are released: they cannot go on, and it is not their fault.
        """
        claims = self._held.all()
        grace = self._runner.settings.timeout_grace
        blocking = find_blocking(
            claims, self._loop_thread.running_task, self._clock.monotonic(), grace
        )
        if blocking is None:
            return
        self._is_loop_blocked = True
        if self._on_loop_blocked is not None and self._loop_thread.loop is not None:
            self._on_loop_blocked(self._loop_thread.loop)
        self._runner.attempts.abandon(blocking)
        self._runner.finisher.finish(
            Ending(blocking, give_up_blocking(blocking, grace))
        )
        on_loop = [claim for claim in claims if claim.policy.is_async]
        for claim in on_loop:
            if claim is not blocking:
                self._runner.finisher.release(claim)
        self._end(on_loop)

    def give_back_all(self) -> None:
        """Release whatever is not recorded, once the commit that is under way has ended."""
        self._committer.stop()
        claims = self._held.all()
        self._release(claims)
        self._held.remove([claim for claim in claims if claim.is_settled])

    def stop(self) -> None:
        """End the idle threads, and close what was opened; a blocked loop lets nobody close it."""
        self._threads.stop()
        if self._lifespan is not None and not self._is_loop_blocked:
            self._lifespan.leave()
        self._loop_thread.stop(None if self._is_loop_blocked else self._on_loop_end)

    def _end(self, claims: Iterable[Claim]) -> None:
        """Hold *claims*, which had a slot, no more: their outcomes are recorded."""
        gone = self._held.remove(claims)
        for queue, count in Counter(claim.job.queue for claim in gone).items():
            self._lane_of[queue].free(count)
        self._wake_for(gone)

    def _give_back(self, calls: Iterable[Call]) -> None:
        waiting = [claim for call in calls for claim in call]
        self._release(waiting)
        self._wake_for(self._held.remove(waiting))

    def _wake_for(self, gone: Sequence[Claim]) -> None:
        if any(claim.job.crashes for claim in gone):
            self._on_low()  # others waited for it to end

    def _release(self, claims: Sequence[Claim]) -> None:
        """Give jobs back, several at once: each is a commit of its own."""
        finisher = self._runner.finisher
        run_all(
            self._threads,
            [partial(finisher.release, claim) for claim in claims],
            most=_MOST,
        )

    def _start_server(self, lane: Lane, is_async: bool) -> None:  # noqa: FBT001
        if is_async:
            self._loop_thread.submit(self._serve_async(lane))
        else:
            self._threads.submit(lambda: self._serve(lane))

    def _serve(self, lane: Lane) -> None:
        run = self._runner.attempts.run
        finish = self._runner.finisher.finish
        call = lane.take(is_async=False)
        while call is not None:
            drive(self._performed(call, run, finish))
            call = lane.take(is_async=False, after=call)

    async def _serve_async(self, lane: Lane) -> None:
        attempts = self._runner.attempts
        finisher = self._runner.finisher

        def finish(ending: Ending) -> Awaitable[Ended]:
            return attempts.aside(finisher.finish, ending)

        act_as_system()
        call = lane.take(is_async=True)
        while call is not None:
            await drive_async(self._performed(call, attempts.run_async, finish))
            call = lane.take(is_async=True, after=call)

    def _performed(
        self, call: Call, run: Callable[[Call], Any], finish: Callable[[Ending], Any]
    ) -> Driven[None]:
        """Run a call, and record how each of its claims ends, or have that done with others."""
        left = dict.fromkeys(call)
        try:
            for result in (yield partial(run, call)):
                if not isinstance(result, Ending):
                    self._note_due(result)
                elif self._commits_together and isinstance(result.outcome, Complete):
                    self._committer.put(result)
                    del left[result.claim]
                else:
                    self._note_due((yield partial(finish, result)))
        except BaseException:  # the thread, or the loop, serves other jobs after these
            log.exception(
                "%d jobs of %s could not be finished", len(left), call[0].job.key
            )
        if left:
            self._end(left)

    def _note_due(self, ended: Ended) -> None:
        if ended.run_at is not None:
            self._on_due(ended.run_at)

    def _end_single(self, success: Ending, ended: Ended | None) -> None:
        if ended is not None:
            self._note_due(ended)
        self._end([success.claim])

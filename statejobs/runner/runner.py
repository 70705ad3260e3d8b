"""The engine of one node: claim, run, finish. Every loop and every test drives this one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from functools import partial
from typing import ParamSpec, TypeVar

from sqlalchemy.orm import Session

from statejobs.config import WorkerSettings
from statejobs.runner.chunks import attempt_chunk
from statejobs.runner.claiming import Claiming, Wanted
from statejobs.runner.deadline import call_within, call_within_async
from statejobs.runner.ended import Ended
from statejobs.runner.finisher import Finisher, outcome_of
from statejobs.runner.points import CrashPoint, Reach, live_on
from statejobs.runner.port import Claim, Ending, Works
from statejobs.runner.rescue import Rescue
from statejobs.runner.strays import Strays
from statejobs.runner.timekeeping import timekeeper_of
from statejobs.store.store import Store
from statejobs.telemetry import Event, Telemetry
from statejobs.values.clock import Sources
from statejobs.values.outcome import Complete
from statejobs.values.suspects import Suspects

P = ParamSpec("P")
R = TypeVar("R")

_MOST_ASIDE = 64  # ends of `async def` attempts at once


class Runner:
    """Claims jobs, runs them, and commits how they ended; safe to call from several threads."""

    def __init__(
        self,
        store: Store,
        work: Works,
        *,
        node_id: str,
        settings: WorkerSettings,
        sources: Sources,
        telemetry: Telemetry,
        reach: Reach = live_on,
    ) -> None:
        self.store, self.work, self.node_id = store, work, node_id
        self.settings, self.sources, self.telemetry = settings, sources, telemetry
        self.timekeeper = timekeeper_of(sources.clock)
        self.finisher = Finisher(
            store, work, lease=settings.lease, sources=sources, telemetry=telemetry, reach=reach
        )
        self.strays = Strays(
            store, work, self.finisher.steps, node_id=node_id, settings=settings,
            sources=sources, reach=reach,
        )  # fmt: skip
        self.claiming = Claiming(
            store, work, self.finisher, self.strays, node_id=node_id, settings=settings,
            sources=sources, telemetry=telemetry, reach=reach,
        )  # fmt: skip
        self._rescue = Rescue(
            store, work, self.finisher.steps, lease=settings.lease, sources=sources,
            telemetry=telemetry, reach=reach,
        )  # fmt: skip
        self.on_abandoned: Callable[[Claim], None] = lambda _claim: None
        """Called when a thread went on after its timeout."""
        self._reach = reach
        # Apart from the threads of asyncio: so many may wait for locks, and hold up nobody's.
        self._aside = ThreadPoolExecutor(_MOST_ASIDE, thread_name_prefix="statejobs-end")

    def close(self) -> None:
        """End the idle threads."""
        self._aside.shutdown(wait=False)

    def claim(
        self,
        queue: str,
        *,
        limit: int,
        suspects: Suspects = Suspects.ANY,
        fills_chunks: bool = False,
    ) -> list[Claim]:
        """Take up to *limit* queued jobs of *queue*, and move their records to `during`.

        Of *suspects*, whose worker died before, only those that may run beside each other: what
        killed one must not take the same neighbours down again and again. Empty only when nothing
        is left to take: jobs that went stale hide none behind them. With *fills_chunks*, jobs
        beyond the limit are taken that share a call with one of it.
        """
        wanted = Wanted(queue=queue, limit=limit, suspects=suspects, fills_chunks=fills_chunks)
        while True:
            taken = self.claiming.take(wanted)
            if taken.claims or not taken.is_more:
                return list(taken.claims)

    def run(self, claim: Claim) -> Ended:
        """Run a claimed job of a `def` action, and commit how it ended."""
        result = self.attempt(claim)
        return self.finisher.finish(result) if isinstance(result, Ending) else result

    async def run_async(self, claim: Claim) -> Ended:
        """Run a claimed job of an `async def` action, and commit how it ended."""
        result = await self.attempt_async(claim)
        if isinstance(result, Ending):
            return await self.finish_aside(self.finisher.finish, result)
        return result

    def attempt(self, claim: Claim) -> Ended | Ending:
        """Run the body of a `def` action, a chunk action with this record alone.

        Returns:
            How it ended; or, when only columns of its own record have changed, a success that
            is still to be committed, by `Finisher.complete` or together with others.
        """
        chunk = claim.policy.chunk
        if chunk is not None and not chunk.only_waiting:
            (result,) = attempt_chunk(self, (claim,))
            return result
        run = claim.work.open(claim, self.begin(claim))
        ended: list[Ended] = []
        try:
            outcome = call_within(
                run.call, [claim], self.settings.timeout_grace, on_abandoned=self.abandon
            )
            self.body_ended(claim)
            if isinstance(outcome, Complete):
                try:
                    if (changes := run.own_changes()) is not None:
                        return Ending(claim, Complete(), changes)
                    run.finish(lambda session: ended.extend(self._within(session, claim)))
                    return ended[0]
                except Exception as error:  # noqa: BLE001 - whatever the commit met ends the attempt
                    outcome = outcome_of(error)
        finally:
            run.close()
        return self.finisher.finish(Ending(claim, outcome))

    async def attempt_async(self, claim: Claim) -> Ended | Ending:
        """Run the body of an `async def` action; returns as `attempt`."""
        run = claim.work.open_async(claim, self.begin(claim))
        ended: list[Ended] = []
        try:
            outcome = await call_within_async(run.call, claim, self.settings.timeout_grace)
            self.body_ended(claim)
            if isinstance(outcome, Complete):
                try:
                    if (changes := run.own_changes()) is not None:
                        return Ending(claim, Complete(), changes)
                    await run.finish(lambda session: ended.extend(self._within(session, claim)))
                    return ended[0]
                except Exception as error:  # noqa: BLE001 - whatever the commit met ends the attempt
                    outcome = outcome_of(error)
        finally:
            await run.close()
        return await self.finish_aside(self.finisher.finish, Ending(claim, outcome))

    def _within(self, session: Session, claim: Claim) -> list[Ended]:
        return self.finisher.finish_within(session, [Ending(claim, Complete())])

    async def finish_aside(self, finish: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what *finish* returns, which may wait for locks; the event loop goes on."""
        call = partial(copy_context().run, finish, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._aside, call)

    def rescue(self) -> int:
        """Take back the jobs whose lease ran out, each by itself; return how many.

        After the clock of this node was set, the leases of others are given the time to be renewed.
        """
        self.timekeeper.settle_doubt()
        if self.timekeeper.was_set_within(self.settings.lease):
            return 0
        return self._rescue.run_once()

    def begin(self, claim: Claim) -> datetime:
        """Note and tell that an attempt begins; return when."""
        self.telemetry.emit(Event.JOB_STARTED, job=claim.job)
        claim.has_begun = True
        claim.began = self.sources.clock.monotonic()
        return self.sources.clock.now()

    def body_ended(self, *claims: Claim) -> None:
        """Note that the body of one or more attempts has ended."""
        for claim in claims:
            claim.duration = self.sources.clock.monotonic() - claim.began
        self._reach(CrashPoint.BODY_RETURNED)

    def abandon(self, claim: Claim) -> None:
        """Tell that the thread of an attempt went on after its timeout."""
        self.telemetry.emit(Event.JOB_ABANDONED, job=claim.job)
        self.on_abandoned(claim)

"""The engine of one node: claim, run, finish. Every loop and every test drives this one."""

from __future__ import annotations

from collections.abc import Sequence

from statejobs.config import WorkerSettings
from statejobs.runner.attempts import Attempts
from statejobs.runner.claiming import Claiming, Wanted
from statejobs.runner.crash_points import Reach, live_on
from statejobs.runner.ended import Ended
from statejobs.runner.finisher import Finisher
from statejobs.runner.port import Claim, Ending, Works
from statejobs.runner.rescue import Rescue
from statejobs.runner.strays import Strays
from statejobs.runner.timekeeping import timekeeper_of
from statejobs.store.store import Store
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.values.suspects import Suspects


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
        keys: Sequence[str] | None = None,
        reach: Reach = live_on,
    ) -> None:
        """Make an engine.

        Args:
            store: The tables.
            work: What the jobs do.
            node_id: Whose claims they are.
            settings: Lease, batches and graces.
            sources: Clock, ids and chance.
            telemetry: Tells what happens.
            keys: Whose jobs it claims; by default all that *work* knows, which it rescues anyway.
            reach: Called at each crash point.
        """
        self.store = store
        self.work = work
        self.node_id = node_id
        self.settings = settings
        self.sources = sources
        self.telemetry = telemetry
        self.timekeeper = timekeeper_of(sources.clock)
        self.finisher = Finisher(
            store,
            work,
            lease=settings.lease,
            sources=sources,
            telemetry=telemetry,
            reach=reach,
        )
        self.strays = Strays(
            store,
            work,
            self.finisher.steps,
            node_id=node_id,
            settings=settings,
            sources=sources,
            reach=reach,
        )
        self.claiming = Claiming(
            store,
            work,
            self.finisher,
            self.strays,
            node_id=node_id,
            settings=settings,
            sources=sources,
            telemetry=telemetry,
            keys=keys,
            reach=reach,
        )
        self._rescue = Rescue(
            store,
            work,
            self.finisher.steps,
            lease=settings.lease,
            sources=sources,
            telemetry=telemetry,
            reach=reach,
        )
        self.attempts = Attempts(
            self.finisher,
            grace=settings.timeout_grace,
            sources=sources,
            telemetry=telemetry,
            reach=reach,
        )

    def close(self) -> None:
        """End the idle threads."""
        self.attempts.close()

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
        wanted = Wanted(
            queue=queue, limit=limit, suspects=suspects, fills_chunks=fills_chunks
        )
        while True:
            taken = self.claiming.take(wanted)
            if taken.claims or not taken.is_more:
                return list(taken.claims)

    def run(self, claim: Claim) -> Ended:
        """Run a claimed job of a `def` action, and commit how it ended."""
        (result,) = self.attempts.run((claim,))
        return self.finisher.finish(result) if isinstance(result, Ending) else result

    async def run_async(self, claim: Claim) -> Ended:
        """Run a claimed job of an `async def` action, and commit how it ended."""
        (result,) = await self.attempts.run_async((claim,))
        if isinstance(result, Ending):
            return await self.attempts.aside(self.finisher.finish, result)
        return result

    def rescue(self) -> int:
        """Take back the jobs whose lease ran out, each by itself; return how many.

        After the clock of this node was set, the leases of others are given the time to be renewed.
        """
        self.timekeeper.settle_doubt()
        if self.timekeeper.was_set_within(self.settings.lease):
            return 0
        return self._rescue.run_once()

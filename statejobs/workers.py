"""What runs the jobs of an app: runners, and the workers of this process."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakSet

from statejobs.config import WorkerSettings
from statejobs.declare.registry import Registry
from statejobs.events import JobEnded, JobStale
from statejobs.people.desk import Desk
from statejobs.people.workers import unserved_queues
from statejobs.runner.crash_points import Reach
from statejobs.runner.drain import DrainResult, drain
from statejobs.runner.executors import LoopThread
from statejobs.runner.joblog import log_event
from statejobs.runner.lifespan import Lifespan, OpenLifespan
from statejobs.runner.runner import Runner
from statejobs.runner.services import Service
from statejobs.runner.worker import Worker
from statejobs.store.engines.factory import make_listener
from statejobs.store.engines.limits import check_connections
from statejobs.store.engines.loops import AsyncEngines
from statejobs.store.engines.unanswered import SilenceWatch
from statejobs.store.store import Store
from statejobs.telemetry import Telemetry
from statejobs.values.clock import Sources
from statejobs.values.opened import Opened
from statejobs.work.declares import Declarations
from statejobs.work.dispatch import WorkByKey
from statejobs.work.records.dropped import Dropped
from statejobs.work.records.work import RecordWork
from statejobs.work.schedules.ticker import Ticker
from statejobs.work.schedules.wiring import ticker_of
from statejobs.work.sweeps.sweeper import Sweeper
from statejobs.work.tasks.work import TaskWork

log = logging.getLogger("statejobs.app")


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Makes what serves the jobs of an app, of the parts that the app has made."""

    registry: Registry
    store: Store
    sources: Sources
    telemetry: Telemetry
    settings: WorkerSettings
    queues: Mapping[str, int]
    """Those of the app."""
    desk: Desk
    async_engines: AsyncEngines
    watch: SilenceWatch | None
    services: list[Service]
    sweeper: Sweeper
    open_lifespan: OpenLifespan | None
    reach: Reach
    declarations: Declarations
    dropped: Dropped = field(default_factory=Dropped)
    """Which values of actions were told of already."""
    made: WeakSet[Worker] = field(default_factory=WeakSet)

    def runner(self, opened: Opened, *, keys: Sequence[str] | None = None) -> Runner:
        """Return a new one under a node id of its own; it runs jobs of *keys*, or of all."""
        self.store.refuse_closed()
        wiring = (
            self.registry,
            self.store,
            self.sources,
            self.async_engines.of_this_loop,
            self.declarations,
        )
        records = RecordWork(*wiring, opened=opened, dropped=self.dropped)
        tasks = TaskWork(*wiring, opened=opened)
        return Runner(
            self.store,
            WorkByKey([records, tasks]),
            node_id=self.sources.ids(),
            settings=self.settings,
            sources=self.sources,
            telemetry=self.telemetry,
            keys=keys,
            reach=self.reach,
        )

    def worker(self, served: Mapping[str, int], keys: Sequence[str] | None) -> Worker:
        """Return one for the queues *served*, which claims jobs of *keys*, or of all.

        Raises:
            ConfigurationError: The engine has too few connections for it.
        """
        engine = self.store.engine
        check_connections(engine, slots=sum(served.values()))
        self.warn_of_unserved({*self.queues, *served})
        self._warn_of_left(served)
        self.store.reserve_connections()
        lifespan = Lifespan(self.open_lifespan)
        runner = self.runner(lifespan.opened, keys=keys)
        ticker = self.ticker()
        ticks = [] if ticker is None else [ticker.service()]
        worker = Worker(
            runner,
            served,
            settings=self.settings,
            make_listener=lambda wake, look: make_listener(
                engine, runner.node_id, wake, self.sources.rng, on_cancel=look
            ),
            watch=self.watch,
            on_loop_end=self.async_engines.close_of_this_loop,
            on_loop_blocked=self.async_engines.cut,
            services=[*self.services, *ticks, *self.sweeper.services()],
            agenda=None if ticker is None else ticker.agenda,
            declares=self.declarations.as_json(keys),
            lifespan=lifespan,
        )
        self.made.add(worker)
        self.telemetry.subscribe_once(log_event, JobEnded, JobStale)
        return worker

    def ticker(self) -> Ticker | None:
        """Return what takes all that is due by the clock; None when nothing ever is."""
        return ticker_of(self.registry, self.store, self.sources, self.telemetry)

    def drain(
        self, queues: Sequence[str], *, most: int, raise_errors: bool
    ) -> DrainResult:
        """Do what is due by the clock, then run what is queued, here."""
        self.warn_of_unserved(self.queues)
        with self.here() as (runner, loop):
            self.sweeper.sweep_all()
            ticker = self.ticker()
            if ticker is not None:
                ticker.catch_up(raise_errors=raise_errors)
            return drain(runner, queues, loop, most=most, raise_errors=raise_errors)

    @contextmanager
    def here(self) -> Iterator[tuple[Runner, LoopThread]]:
        """Give what runs jobs here, and a loop for those that are async; neither outlives it."""
        self.store.refuse_open()
        lifespan, loop = Lifespan(self.open_lifespan), LoopThread()
        runner = self.runner(lifespan.opened)
        runner.attempts.on_abandoned = lambda _claim: self.store.cut_off()
        try:
            lifespan.enter(loop)
            yield runner, loop
        finally:
            lifespan.leave()
            loop.stop(self.async_engines.close_of_this_loop)
            runner.close()

    def stop(self) -> None:
        """Stop the workers that run."""
        for worker in tuple(self.made):
            if worker.is_running:
                worker.stop()

    def warn_of_unserved(self, queues: Collection[str]) -> None:
        """Say which queues that triggers and tasks name are none of *queues*."""
        for warning in self.registry.unserved(queues):
            log.warning("%s", warning)

    def _warn_of_left(self, served: Collection[str]) -> None:
        """Say which queues of the app neither this worker serves nor any that lives."""
        if self.queues.keys() <= {*served}:
            return  # the usual case, which asks nobody
        for queue in unserved_queues(self.desk, but=served):
            log.warning(
                "no worker that lives serves queue %r, nor will this one: its jobs wait",
                queue,
            )

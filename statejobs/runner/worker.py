"""One worker in this process: claims into free slots, runs, keeps, rescues, and stops cleanly."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta

from statejobs.config import WorkerSettings
from statejobs.events import WorkerStarted, WorkerStopped
from statejobs.runner.agenda import Agenda
from statejobs.runner.crew import Crew
from statejobs.runner.executors import LastOnLoop, LoopThread, OnLoopBlocked, Threads
from statejobs.runner.keeper import HeldClaims, Keeper
from statejobs.runner.lifespan import Lifespan
from statejobs.runner.news import News
from statejobs.runner.node import Node
from statejobs.runner.port import Claim
from statejobs.runner.refill import Refill
from statejobs.runner.runner import Runner
from statejobs.runner.services import Loop, Service
from statejobs.runner.upkeep import upkeep
from statejobs.sparing import sparing
from statejobs.store.engines.factory import Listener
from statejobs.store.engines.unanswered import SilenceWatch

log = logging.getLogger("statejobs.worker")

MakeListener = Callable[[Callable[[], None], Callable[[], None]], Listener]


class Worker:
    """Serves queues until it is stopped."""

    _process: int | None = None
    """Which process runs it, from its start to its stop."""

    def __init__(
        self,
        runner: Runner,
        queues: Mapping[str, int],
        *,
        settings: WorkerSettings,
        make_listener: MakeListener | None = None,
        threads: Threads | None = None,
        loop_thread: LoopThread | None = None,
        on_loop_end: LastOnLoop | None = None,
        on_loop_blocked: OnLoopBlocked | None = None,
        watch: SilenceWatch | None = None,
        services: Sequence[Service] = (),
        agenda: Agenda | None = None,
        declares: str | None = None,
        lifespan: Lifespan | None = None,
    ) -> None:
        """Make a worker; `start` begins.

        Args:
            runner: The engine.
            queues: How many jobs of each queue may run at once.
            settings: Lease, poll and grace.
            make_listener: Makes what calls back when there may be work, and when a job is to stop;
                without it neither is known before it is looked for.
            threads: Where `def` actions run.
            loop_thread: Where `async def` actions run.
            on_loop_end: Awaited on that loop when it ends.
            on_loop_blocked: Called when a body blocks that loop for good.
            watch: Notices connections that stay silent.
            services: What else shall go on while it runs.
            agenda: Is told when a schedule is due, as a look shows.
            declares: What its code declares, as JSON, for nodes of other code.
            lifespan: What it keeps open on that loop, from before its first claim to after its last
                job.
        """
        self.held = HeldClaims()
        self._runner = runner
        self._queues = dict(queues)
        self._settings = settings
        self._sources = runner.sources
        self._telemetry = runner.telemetry
        self._watch = watch
        self._node = Node(runner, self._queues, declares=declares)
        self._news = News(runner.sources.clock, poll=settings.poll)
        self._crew = Crew(
            runner,
            self.held,
            queues,
            settings=settings,
            on_low=self._news.note_room,
            on_due=self._news.note_due,
            threads=threads,
            loop_thread=loop_thread,
            on_loop_end=on_loop_end,
            on_loop_blocked=on_loop_blocked,
            lifespan=lifespan,
        )
        self._keeper = Keeper(
            runner.store,
            self.held,
            node_id=runner.node_id,
            settings=settings,
            sources=runner.sources,
            telemetry=runner.telemetry,
            held_keys=runner.claiming.held.as_json,
            on_forgotten=self._node.register_again,
        )
        refill = Refill(
            runner,
            self._crew,
            self.held,
            keeper=self._keeper,
            news=self._news,
            agenda=agenda,
        )
        claim, *others = self.services = (
            refill.service(),
            *upkeep(
                runner,
                self._crew,
                self.held,
                keeper=self._keeper,
                node=self._node,
                news=self._news,
                watch=watch,
            ),
            *services,
        )
        """What goes on while it runs, each in a thread of its own; the first claims."""
        self._claiming = Loop(claim, runner.sources)
        self._loops = [Loop(service, runner.sources) for service in others]
        self._listener = (
            make_listener(self.wake, self._keeper.look_now) if make_listener else None
        )
        self._must_release = threading.Event()
        self._log = ExitStack()
        runner.attempts.on_abandoned = self._abandon

    @property
    def node_id(self) -> str:
        """Id of this running copy."""
        return self._runner.node_id

    @property
    def queues(self) -> Mapping[str, int]:
        """How many jobs of each queue may run at once."""
        return self._queues

    def open(self) -> None:
        """Open what the app keeps open in each worker; `start` does so itself when nobody did.

        Raises:
            BaseException: As `worker_lifespan` raised; nothing was claimed.
        """
        self._crew.open()

    def register(self) -> None:
        """Write the row of this process; `start` does so itself when nobody did."""
        self._node.register()

    def start(self) -> None:
        """Register this process, and begin to serve."""
        self._runner.store.refuse_closed()
        self.open()
        self._log.enter_context(sparing(redaction=self._runner.store.redaction))
        self._ensure_registered()
        for loop in self._loops:
            loop.start()
        self._crew.start()
        if self._listener:
            self._listener.start()
        self._process = os.getpid()
        self._claiming.start()
        self._telemetry.emit(WorkerStarted, node_id=self._runner.node_id)

    def wake(self) -> None:
        """Look for work now."""
        self._news.hint()

    @property
    def is_running(self) -> bool:
        """Whether it was started in this process, and not stopped since."""
        return self._process == os.getpid()

    def stop_claiming(self) -> None:
        """Claim nothing more; what runs goes on."""
        self._claiming.end()

    def release_now(self) -> None:
        """Cut the grace of `stop` short."""
        self._must_release.set()
        with self.held.emptied:
            self.held.emptied.notify_all()

    def stop(self, grace: timedelta | None = None) -> bool:
        """Claim nothing more, wait for running jobs, and give back those that do not end in time.

        A job that has run is waited for as well, until its outcome is recorded.

        Args:
            grace: How long to wait; `shutdown_grace` of the settings by default.

        Returns:
            Whether nothing is left in `processing` that another worker would have to rescue.
        """
        if not self.is_running:
            return self.held.is_empty  # stopped before, or a copy that a fork made
        self.stop_claiming()
        patience = (
            grace if grace is not None else self._settings.shutdown_grace
        ).total_seconds()
        began = self._sources.clock.monotonic()
        self._claiming.join(patience)
        if self._watch is not None and self._claiming.is_running:
            self._watch.close_waiting()
        self._claiming.join()
        _do_all([self._crew.give_back_waiting])
        patience -= self._sources.clock.monotonic() - began
        self._wait_for_jobs(patience)
        _do_all([self._crew.give_back_all])
        _do_all(loop.end for loop in self._loops)
        _do_all(loop.stop for loop in self._loops)
        _do_all([self._listener.stop] if self._listener else [])
        _do_all([self._crew.stop, self._runner.close])
        self._process = None
        left_nothing = self._node.leave(self.held)
        self._telemetry.emit(WorkerStopped, node_id=self._runner.node_id)
        self._log.close()
        return left_nothing

    def _ensure_registered(self) -> None:
        if self._node.is_registered:
            return
        try:
            self._node.register()
        except BaseException:
            self._crew.stop()  # else what was opened stays open
            self._log.close()
            raise

    def _abandon(self, claim: Claim) -> None:
        log.error(
            "job %s (%s) went on after it was to stop, and cannot be stopped: it was abandoned",
            claim.job.id,
            claim.job.key,
        )

    def _wait_for_jobs(self, patience: float) -> None:
        monotonic = self._sources.clock.monotonic
        emptied = self.held.emptied
        give_up_at = monotonic() + patience
        with emptied:
            while not (self._must_release.is_set() or self.held.is_empty):
                left = give_up_at - monotonic()
                if left <= 0 or not self._sources.wait(emptied, left):
                    return


def _do_all(steps: Iterable[Callable[[], object]]) -> None:
    """Take each of *steps*, though one before it raised: a stop leaves nothing out."""
    for step in steps:
        try:
            step()
        except Exception:  # the others are to be taken all the same
            log.exception("a step of the stop failed")

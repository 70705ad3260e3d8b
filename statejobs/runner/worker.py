"""One worker in this process: claims into free slots, runs, keeps, rescues, and stops cleanly."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from functools import partial

import msgspec
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from statejobs.config import WorkerSettings
from statejobs.events import WorkerStarted, WorkerStopped
from statejobs.runner.blockers import is_table_locked, who_has_locked
from statejobs.runner.claiming import Wanted
from statejobs.runner.crew import Crew
from statejobs.runner.executors import LastOnLoop, LoopThread, OnLoopBlocked, Threads
from statejobs.runner.keeper import HeldClaims, Keeper
from statejobs.runner.lane import Lane
from statejobs.runner.loop import Loop
from statejobs.runner.port import Claim
from statejobs.runner.rescue import RESCUED_AT_ONCE
from statejobs.runner.runner import Runner
from statejobs.runner.staging import Staging
from statejobs.runner.trouble import Trouble
from statejobs.sparing import sparing
from statejobs.store.engines.factory import Listener
from statejobs.store.engines.unanswered import SilenceWatch
from statejobs.store.nodes import (
    count_held,
    forget_silent_nodes,
    register_node,
    remove_node,
)
from statejobs.values.suspects import Suspects
from statejobs.version import __version__

log = logging.getLogger("statejobs.worker")

_FEW_QUEUES = 4
"""So many queues are tried at once on a hint; the others are looked at first."""
_HEAD_START = 0.002  # seconds
_LOOK_FOR_SILENCE = timedelta(seconds=1)
_LOOK_FOR_BLOCKED = timedelta(seconds=0.5)
SILENT_NODE = timedelta(minutes=5)
"""How long a process that died is remembered; whoever lives has told it long before."""

MakeListener = Callable[[Callable[[], None]], Listener]


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
        chores: Sequence[Loop] = (),
        declares: str | None = None,
    ) -> None:
        """Make a worker; `start` begins.

        Args:
            runner: The engine.
            queues: How many jobs of each queue may run at once.
            settings: Lease, poll and grace.
            make_listener: Makes what calls back when there may be work; None polls only.
            threads: Where `def` actions run.
            loop_thread: Where `async def` actions run.
            on_loop_end: Awaited on that loop when it ends.
            on_loop_blocked: Called when a body blocks that loop for good.
            watch: Notices connections that stay silent.
            chores: What else shall go on while it runs.
            declares: What its code declares, as JSON, for nodes of other code.
        """
        self.held = HeldClaims()
        self._runner, self._queues, self._settings = runner, dict(queues), settings
        self._declares = declares
        self._started_at: datetime | None = None
        self._sources, self._telemetry = runner.sources, runner.telemetry
        self._crew = Crew(
            runner,
            self.held,
            queues,
            settings=settings,
            on_low=self._refill,
            on_due=self._note_due,
            threads=threads,
            loop_thread=loop_thread,
            on_loop_end=on_loop_end,
            on_loop_blocked=on_loop_blocked,
        )
        self._keeper = Keeper(
            runner.store,
            self.held,
            node_id=runner.node_id,
            settings=settings,
            sources=runner.sources,
            telemetry=runner.telemetry,
            held_keys=runner.claiming.held.as_json,
            on_forgotten=self.register,
        )
        rng = runner.sources.rng
        self._loops = [
            Loop("heartbeat", self._beat, settings.heartbeat, rng),
            Loop("lease", self._keeper.watch, self._keeper.watches_every, rng),
            Loop("rescue", self._rescue, settings.rescue, rng),
            Loop("blocked", self._crew.end_blocking, _LOOK_FOR_BLOCKED, rng),
            Loop("forget", self._forget_nodes, SILENT_NODE / 10, rng),
            *chores,
        ]
        self._watch = watch
        if watch is not None:
            self._loops.append(Loop("watch", watch.run_once, _LOOK_FOR_SILENCE, rng))
        self._wake = threading.Event()
        self._trouble = Trouble(
            runner.sources,
            runner.telemetry,
            who_has_locked=partial(who_has_locked, runner.store),
        )
        self._staging = Staging(runner.store)
        self._listener = make_listener(self.wake) if make_listener else None
        self._stopping = threading.Event()
        self._must_release = threading.Event()
        self._is_registered = False
        self._log = ExitStack()
        self._main = threading.Thread(
            target=self._serve, name="statejobs-worker", daemon=True
        )
        self._must_look = True
        """Whether the queues are to be looked at, whatever is known of them."""
        self._is_hinted = False
        """Whether someone said that there is work."""
        self._next_due: datetime | None = None
        self._due_lock = threading.Lock()
        runner.attempts.on_abandoned = self._abandon

    @property
    def node_id(self) -> str:
        """Id of this running copy."""
        return self._runner.node_id

    @property
    def queues(self) -> Mapping[str, int]:
        """How many jobs of each queue may run at once."""
        return self._queues

    def register(self) -> None:
        """Write the row of this process; `start` does so itself when nobody did.

        A heartbeat does it again, when somebody has deleted the row.
        """
        self._runner.timekeeper.settle_doubt()
        now = self._sources.clock.now()
        self._started_at = self._started_at or now
        with suppress(IntegrityError):  # written before, and the answer was lost
            register_node(
                self._runner.store,
                {
                    "id": self._runner.node_id,
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "queues": msgspec.json.encode(self._queues).decode(),
                    "version": __version__,
                    "started_at": self._started_at,
                    "beat_at": now,
                    "declares": self._declares,
                    "clock_offset": self._runner.timekeeper.offset,
                },
            )
        self._is_registered = True

    def start(self) -> None:
        """Register this process, and begin to serve."""
        self._runner.store.refuse_closed()
        self._log.enter_context(sparing(redaction=self._runner.store.redaction))
        if not self._is_registered:
            self.register()
        for loop in self._loops:
            loop.start()
        self._crew.start()
        if self._listener:
            self._listener.start()
        self._process = os.getpid()
        self._main.start()
        self._telemetry.emit(WorkerStarted, node_id=self._runner.node_id)

    def wake(self) -> None:
        """Look for work now."""
        self._is_hinted = self._must_look = True
        self._wake.set()

    @property
    def is_running(self) -> bool:
        """Whether it was started in this process, and not stopped since."""
        return self._process == os.getpid()

    def stop_claiming(self) -> None:
        """Claim nothing more; what runs goes on."""
        self._stopping.set()
        self._wake.set()

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
        self._main.join(patience)
        if self._watch is not None and self._main.is_alive():
            self._watch.close_waiting()
        self._main.join()
        _do_all([self._crew.give_back_waiting])
        patience -= self._sources.clock.monotonic() - began
        self._wait_for_jobs(patience)
        _do_all([self._crew.give_back_all])
        _do_all(loop.stop for loop in self._loops)
        _do_all([self._listener.stop] if self._listener else [])
        _do_all([self._crew.stop, self._runner.close])
        self._process = None
        left_nothing = self._leave()
        self._telemetry.emit(WorkerStopped, node_id=self._runner.node_id)
        self._log.close()
        return left_nothing

    def run_once(self) -> bool:
        """Claim what there is room for, and start it; return whether more may be waiting."""
        self._crew.give_back_overdue()
        if not self._keeper.can_claim:
            return False
        self._runner.timekeeper.settle_doubt()
        if self._is_hinted:  # a look first would only delay what is most likely there
            self._is_hinted = False
            self._fill_all(self._crew.lanes[:_FEW_QUEUES])
            if not self.held.is_empty:
                # A look at once would take the interpreter from what has just started.
                self._stopping.wait(_HEAD_START)
        has_something = any(lane.has_more for lane in self._crew.lanes)
        if self._must_look or self._trouble.is_met or not has_something:
            self._must_look = False
            self._look()
        return self._fill_all([lane for lane in self._crew.lanes if lane.has_more])

    def _fill_all(self, lanes: Sequence[Lane]) -> bool:
        """Claim what *lanes* have room for; return whether more may be waiting."""
        more = [
            self._trouble.guard(lane.queue, partial(self._fill, lane)) for lane in lanes
        ]
        return any(more)

    def _fill(self, lane: Lane) -> bool:
        """Claim what *lane* has room for; return whether more may be waiting."""
        limit = min(
            lane.room(self._sources.clock.monotonic()), self._settings.claim_batch
        )
        if limit <= 0:
            return False
        suspects = self.held.suspects
        wanted = Wanted(
            queue=lane.queue, limit=limit, suspects=suspects, fills_chunks=True
        )
        taken = self._runner.claiming.take(wanted)
        is_more = len(taken.claims) >= limit or taken.is_more
        # Others may have been left out, which can be claimed once these have ended.
        leaves_out = suspects is not Suspects.ANY or any(
            c.job.crashes for c in taken.claims
        )
        lane.has_more = is_more or leaves_out
        self._crew.put(lane, taken.claims)
        return is_more

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                more = self.run_once()
            except Exception as error:  # noqa: BLE001 - a broken round must not end the worker
                self._stopping.wait(self._trouble.met(error))
                continue
            if self._keeper.can_claim:  # otherwise nothing was asked
                self._trouble.is_over()
            if not more and not self._wake.wait(self._idle_seconds()):
                self._must_look = True

    def _look(self) -> None:
        """Stage what is due, and note which queues have work, with room for it or not."""
        self._next_due = None
        queues, keys = list(self._queues), self._runner.claiming.claimable_keys()
        sent = self._sources.clock.monotonic()
        peek = self._runner.claiming.look(queues)
        self._runner.timekeeper.take(peek.told, sent=sent)
        now = self._sources.clock.now()
        ready = set(peek.ready)
        if peek.next_due is not None and peek.next_due <= now:
            ready |= self._staging.run_once(queues, keys, now)
        elif peek.next_due is not None:
            self._is_sooner(peek.next_due)
        for lane in self._crew.lanes:
            lane.has_more = lane.queue in ready

    def _note_due(self, due: datetime) -> None:
        """Look again when a job is *due*, sooner than the next poll."""
        if self._is_sooner(due):
            self._refill()

    def _is_sooner(self, due: datetime) -> bool:
        with self._due_lock:
            if self._next_due is not None and self._next_due <= due:
                return False
            self._next_due = due
            return True

    def _refill(self) -> None:
        if not self._wake.is_set():
            self._wake.set()

    def _idle_seconds(self) -> float:
        poll = self._settings.poll.total_seconds()
        if self._next_due is None:
            return poll
        until_due = (self._next_due - self._sources.clock.now()).total_seconds()
        return min(poll, max(until_due, 0.001))

    def _abandon(self, claim: Claim) -> None:
        log.error(
            "job %s (%s) went on after its timeout, and cannot be stopped: it was abandoned",
            claim.job.id,
            claim.job.key,
        )

    def _beat(self) -> bool:
        """Renew what is held, and give back what is ours without being held."""
        has_all = self._keeper.run_once()
        if self._keeper.can_claim:
            self._runner.strays.give_back_unheld(self.held.all())
        return has_all

    def _rescue(self) -> bool:
        """Take back what dead workers held; return False when there may be more of it."""
        try:
            rescued = self._runner.rescue() if self._keeper.may_rescue else 0
        except Exception as error:
            if is_table_locked(error):
                self._keeper.rest()  # nobody can renew a lease now either
            raise
        if rescued:
            self.wake()
        return rescued < RESCUED_AT_ONCE

    def _forget_nodes(self) -> None:
        forget_silent_nodes(self._runner.store, self._sources.clock.now() - SILENT_NODE)

    def _leave(self) -> bool:
        """Delete this node's row; return whether no job bears its name any more."""
        store, node_id = self._runner.store, self._runner.node_id
        try:
            left = count_held(store, node_id)
            remove_node(store, node_id)
        except SQLAlchemyError as error:
            log.debug("this node's row stays until it is forgotten: %s", error)
            return self.held.is_empty
        if left:
            log.warning("%d jobs could not be given back: they will be rescued", left)
        return not left

    def _wait_for_jobs(self, patience: float) -> None:
        with self.held.emptied:
            self.held.emptied.wait_for(
                lambda: self._must_release.is_set() or self.held.is_empty, patience
            )


def _do_all(steps: Iterable[Callable[[], object]]) -> None:
    """Take each of *steps*, though one before it raised: a stop leaves nothing out."""
    for step in steps:
        try:
            step()
        except Exception:  # the others are to be taken all the same
            log.exception("a step of the stop failed")

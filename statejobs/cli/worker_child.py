"""`worker-process`: what `worker` spawns. Runs one worker, and obeys the pipe on its stdin."""

from __future__ import annotations

import faulthandler
import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import FrameType

import click

from statejobs.app import StateJobs
from statejobs.cli.logs import set_up_logging
from statejobs.cli.once_up import Orders, once_there
from statejobs.cli.problems import Exit, Problem
from statejobs.cli.settings import Settings, common_options
from statejobs.cli.worker import worker_options
from statejobs.cli.worker_parent import HANDLED
from statejobs.errors import did_you_mean
from statejobs.events import JobAbandoned
from statejobs.runner.port import Claim
from statejobs.runner.supervisor import RECYCLED, UNOPENED, Order
from statejobs.runner.worker import Worker
from statejobs.store.engines.addresses import shown_url
from statejobs.values.clock import Clock
from statejobs.values.job import Job
from statejobs.values.moments import span
from statejobs.values.queues import REST, served_queues

log = logging.getLogger("statejobs.worker")

_LISTED = 5  # jobs that are named when it waits for them
_RECYCLE = "recycle"
_BEYOND_GRACE = 6.0  # seconds; less than the supervisor gives
_LOOK = 0.1  # seconds between two looks whether haste is asked for
Inbox = queue.SimpleQueue[str]


@click.command("worker-process", hidden=True)
@worker_options
@click.option("--ready-fd", type=int, required=True)
@common_options
@click.pass_obj
def worker_process(
    settings: Settings,
    queues: dict[str, int | None] | None,
    domains: tuple[str, ...],
    grace: float | None,
    ready_fd: int,
    log_level: str,
    log_format: str,
) -> int:
    """Run one worker. Spawned by `statejobs worker`."""
    orders = Orders()
    haste = threading.Event()
    _catch_signals(orders.given)
    hasten: list[Callable[[], None]] = [haste.set]
    pipe = _take_stdin()
    threading.Thread(
        target=_read_orders, args=(pipe, orders.given, hasten), daemon=True
    ).start()
    app = settings.load()
    set_up_logging(log_level, log_format, app.redaction)
    patience = app.settings.shutdown_grace.total_seconds() if grace is None else grace
    served = _queues(app, queues)
    chosen = _domains(app, domains)
    worker = once_there(lambda: app.worker(served, domains=chosen), app.sources)
    app.telemetry.subscribe(lambda _: orders.given.put(_RECYCLE), JobAbandoned)
    if not _opens(worker):
        return UNOPENED
    once_there(worker.register, app.sources)
    hasten.append(worker.release_now)
    os.write(ready_fd, str(patience).encode())  # whoever has not said so holds no job
    os.close(ready_fd)
    orders.serve()
    worker.start()
    _log_start(settings, app, worker, domains)
    order = orders.wait()
    _log_stop(app, worker, order, patience)
    left_nothing = _stop(worker, patience, haste, app.sources.clock)
    log.info("stopped")
    if not left_nothing:
        return 1
    return RECYCLED if order == _RECYCLE else 0


def _opens(worker: Worker) -> bool:
    try:
        worker.open()
    except (Exception, SystemExit):
        log.exception("worker_lifespan raised: this process ends, and claims nothing")
        return False
    return True


def _stop(
    worker: Worker, patience: float, haste: threading.Event, clock: Clock
) -> bool:
    """Stop *worker*, and return what it returns; end the process when it meets no answer."""
    left_nothing: list[bool] = []
    stopping = threading.Thread(
        target=lambda: left_nothing.append(worker.stop(timedelta(seconds=patience))),
        daemon=True,
    )
    stopping.start()
    give_up_at = clock.monotonic() + patience
    while stopping.is_alive() and clock.monotonic() < give_up_at and not haste.is_set():
        stopping.join(_LOOK)
    stopping.join(_BEYOND_GRACE)
    if stopping.is_alive():
        log.error("no answer from the database: what is left here will be rescued")
        os._exit(1)  # threads that wait in the driver would hold up any other end
    return left_nothing == [True]


def _take_stdin() -> int:
    """Take the pipe away from fd 0, where a user's subprocess would inherit and read it."""
    orders = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return orders


def _catch_signals(inbox: Inbox) -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        inbox.put(Order.STOP)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, stop)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)


def _read_orders(pipe: int, inbox: Inbox, hasten: Sequence[Callable[[], None]]) -> None:
    """Obey until the supervisor ends; then stop too."""
    with os.fdopen(pipe, "r") as lines:
        for line in lines:
            if line.strip() == Order.RELEASE:
                log.warning("giving running jobs back now")
                for act in hasten:
                    act()
            inbox.put(Order.STOP)
    inbox.put(Order.STOP)


def _domains(app: StateJobs, chosen: Sequence[str]) -> Sequence[str] | None:
    known = app.registry.domains
    for name in chosen:
        if name not in known:
            raise Problem(
                f"--domain: no domain {name!r}; {did_you_mean(name, known)}",
                "it is not in the `domains` of the app",
                "statejobs worker --help",
                Exit.USAGE,
            )
    return chosen or None


def _queues(app: StateJobs, chosen: Mapping[str, int | None] | None) -> dict[str, int]:
    if chosen is None:
        return app.queues
    known = {REST, *app.queues, *app.registry.named_queues()}
    for name in chosen:
        if name not in known:
            raise Problem(
                f"--queues: no queue {name!r}; {did_you_mean(name, known - {REST})}",
                "no trigger and no task of the app uses it",
                "statejobs queue list",
                Exit.USAGE,
            )
    return served_queues(chosen, app.queues)


def _log_start(
    settings: Settings, app: StateJobs, worker: Worker, domains: Sequence[str]
) -> None:
    log.info(
        "worker started: pid %s, node %s, queues %s%s, database %s, app %s",
        os.getpid(),
        worker.node_id,
        _listed(worker.queues),
        f", domains {', '.join(domains)}" if domains else "",
        shown_url(app.engine.url),
        settings.app_name(),
    )


def _log_stop(app: StateJobs, worker: Worker, order: str, patience: float) -> None:
    if order == _RECYCLE:
        log.warning("a job cannot be stopped: this process ends and is replaced")
    worker.stop_claiming()
    log.info(
        "stopping: %s",
        _what_it_holds(worker.held.all(), app.sources.clock.now(), patience),
    )


def _what_it_holds(claims: Sequence[Claim], now: datetime, patience: float) -> str:
    """Say what is waited for at a stop: not for what only waits here for a slot."""
    running = [claim.job for claim in claims if claim.has_begun]
    waiting = len(claims) - len(running)
    rest = f"; {waiting} more that had not begun are given back" if waiting else ""
    if not running:
        return f"no job is running{rest}"
    names = [_named(job, now) for job in running[:_LISTED]]
    if len(running) > _LISTED:
        names.append(f"and {len(running) - _LISTED} more")
    return (
        f"up to {patience:g} s for {len(running)} running job(s): {', '.join(names)}"
        f"{rest}. Signal again to give back now what runs"
    )


def _named(job: Job, now: datetime) -> str:
    record = f"{job.resource} {job.record_id}, " if job.resource else ""
    return f"{job.id} {job.key} ({record}{_since(job.started_at, now)})"


def _since(started_at: datetime | None, now: datetime) -> str:
    return span((now - started_at).total_seconds()) if started_at else "just begun"


def _listed(queues: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({limit})" for name, limit in queues.items())

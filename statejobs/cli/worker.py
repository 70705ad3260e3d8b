"""`worker`: a supervisor over one or more processes that run jobs."""

from __future__ import annotations

import faulthandler
import logging
import os
import queue
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import click

from statejobs.cli.completion import complete, domain_names, queue_names
from statejobs.cli.logs import FORMATS, LEVELS, set_up_logging
from statejobs.cli.settings import Settings, common_options
from statejobs.cli.source import DATABASE_VARIABLE
from statejobs.cli.worker_parent import WorkerProcess
from statejobs.runner.supervisor import Supervisor
from statejobs.values.backoff import LONGEST
from statejobs.values.clock import Sources

log = logging.getLogger("statejobs.supervisor")
Inbox = queue.SimpleQueue[int]


def read_seconds(
    _context: click.Context, _parameter: click.Parameter, value: float | None
) -> float | None:
    """Return a length of time that has an end; "nan" and "inf" have none."""
    if value is not None and not 0 <= value <= LONGEST.total_seconds():
        raise click.BadParameter(
            f"'{value:g}' is not a number of seconds from 0 to ten years"
        )
    return value


def read_queues(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> dict[str, int | None] | None:
    """Return queue → limit from `a:10,b,*`; None stands for the app's own limit."""
    if value is None:
        return None
    queues: dict[str, int | None] = {}
    for part in value.split(","):
        name, colon, limit = part.strip().partition(":")
        if not name or (colon and not (limit.isdecimal() and int(limit) > 0)):
            raise click.BadParameter(
                f"cannot read queue {part!r}: it is name or name:limit, with a limit from 1 on, "
                "for instance payments:10,mail"
            )
        if name in queues:
            raise click.BadParameter(f"queue {name!r} is named twice")
        queues[name] = int(limit) if colon else None
    return queues


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that `worker` hands on to its processes."""
    for option in (
        click.option(
            "--log-format",
            type=click.Choice(FORMATS),
            default="text",
            show_default=True,
            envvar="STATEJOBS_LOG_FORMAT",
            show_envvar=True,
            help="How log lines look.",
        ),
        click.option(
            "--log-level",
            type=click.Choice(LEVELS),
            default="info",
            show_default=True,
            envvar="STATEJOBS_LOG_LEVEL",
            show_envvar=True,
            help="From which level on events are logged.",
        ),
        click.option(
            "--grace",
            metavar="SECONDS",
            type=float,
            callback=read_seconds,
            envvar="STATEJOBS_GRACE",
            show_envvar=True,
            help="How long running jobs may go on after the first signal.  [default: the app's]",
        ),
        click.option(
            "--queues",
            metavar="NAME[:LIMIT],...",
            callback=read_queues,
            shell_complete=complete(queue_names),
            envvar="STATEJOBS_QUEUES",
            show_envvar=True,
            help="Which queues, and how many of their jobs at once; * is all others of the app.  "
            "[default: the app's]",
        ),
        click.option(
            "--domain",
            "domains",
            metavar="NAME",
            multiple=True,
            shell_complete=complete(domain_names),
            envvar="STATEJOBS_DOMAIN",
            show_envvar=True,
            help="Claim jobs of this domain only; may be repeated.  [default: all]",
        ),
    ):
        command = option(command)
    return command


@click.command()
@worker_options
@click.option(
    "--processes",
    default=1,
    show_default=True,
    type=click.IntRange(1, 256),
    envvar="STATEJOBS_PROCESSES",
    show_envvar=True,
    help="How many processes, each with those limits; one for each core suits CPU-bound work.",
)
@common_options
@click.pass_obj
def worker(
    settings: Settings,
    queues: dict[str, int | None] | None,
    domains: tuple[str, ...],
    grace: float | None,
    processes: int,
    log_level: str,
    log_format: str,
) -> int:
    """Run jobs until stopped.

    The first SIGTERM or Ctrl-C claims nothing more and waits for running jobs within the grace;
    what is left then is given back, its attempt not counted. The second gives them back now.
    SIGUSR1 prints what every thread does. A process that dies is replaced.

    \b
    Examples:
      statejobs worker --queues payments:10,mail:2
      statejobs worker --queues "payments:10,*" --domain shop
      statejobs worker --processes 4 --grace 60
    """  # noqa: D301
    # first: a signal while the app is looked for stops in order too
    inbox = _catch_signals()
    set_up_logging(log_level, log_format)
    command = [
        *(
            sys.executable,
            "-m",
            "statejobs",
            "worker-process",
            "--app",
            settings.app_name(),
        ),
        *("--log-level", log_level, "--log-format", log_format),
        *(() if grace is None else ("--grace", str(grace))),
        *(() if queues is None else ("--queues", _as_option(queues))),
        *(word for name in domains for word in ("--domain", name)),
        *(("--debug",) if settings.debug else ()),
    ]
    # A URL may hold a password, and others can read the arguments of a process.
    url = settings.chosen_database()
    environ = {**os.environ, **({DATABASE_VARIABLE: url} if url else {})}
    return _supervise(
        settings, inbox, lambda _number: WorkerProcess(command, environ), processes
    )


def _supervise(
    settings: Settings,
    inbox: Inbox,
    spawn: Callable[[int], WorkerProcess],
    processes: int,
) -> int:
    sources = Sources()
    supervisor = Supervisor(
        spawn,
        processes=processes,
        monotonic=sources.clock.monotonic,
        rng=sources.rng,
        wait=lambda seconds: _handle(inbox, seconds, supervisor),
    )
    began = sources.clock.monotonic()
    # a signal that came before there was anything to supervise
    _handle(inbox, 0, supervisor)
    code = supervisor.run()
    if settings.as_json:
        tally = supervisor.tally
        settings.output.json(
            {
                "processes": processes,
                "started": tally.started,
                "died": tally.died,
                "recycled": tally.recycled,
                "killed": tally.killed,
                "seconds": round(sources.clock.monotonic() - began, 3),
                "exit_code": code,
            }
        )
    return code


def _catch_signals() -> Inbox:
    inbox: Inbox = queue.SimpleQueue()

    def receive(number: int, _frame: FrameType | None) -> None:
        inbox.put(number)  # safe in a handler; most of what a handler might do is not

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, receive)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, receive)
    return inbox


def _handle(inbox: Inbox, seconds: float, supervisor: Supervisor) -> None:
    try:
        number = inbox.get(timeout=seconds)
    except queue.Empty:
        return
    if number == signal.SIGUSR1:
        faulthandler.dump_traceback(all_threads=True)
        for child in supervisor.children():
            if isinstance(child, WorkerProcess):
                child.dump_stacks()
    elif number != signal.SIGCHLD:
        count = len(supervisor.children())
        log.info(
            "%s: stopping %s worker process(es)", signal.Signals(number).name, count
        )
        supervisor.stop()


def _as_option(queues: dict[str, int | None]) -> str:
    return ",".join(
        name if limit is None else f"{name}:{limit}" for name, limit in queues.items()
    )

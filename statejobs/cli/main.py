"""The `statejobs` command: its root, and its entry point."""

from __future__ import annotations

import sys

import click

from statejobs.cli.database import database_group
from statejobs.cli.demo import demo
from statejobs.cli.diagram import diagram
from statejobs.cli.group import Program
from statejobs.cli.jobs import job_group
from statejobs.cli.problems import Exit
from statejobs.cli.prune import prune
from statejobs.cli.records import record_group
from statejobs.cli.schedules import schedule_group
from statejobs.cli.settings import common_options
from statejobs.cli.status import queue_group, status
from statejobs.cli.terminal import Terminal
from statejobs.cli.worker import worker
from statejobs.cli.worker_child import worker_process
from statejobs.values.failure import traceback_of
from statejobs.version import __version__


@click.group(
    "statejobs",
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 not found, "
    "4 refused by the state machine, 130 interrupted.",
)
@click.version_option(__version__, prog_name="statejobs")
@common_options
def cli() -> None:
    """Records that are state machines, and the jobs that move them."""


for command in (
    demo,
    worker,
    status,
    job_group,
    record_group,
    queue_group,
    schedule_group,
    prune,
    diagram,
    database_group,
    worker_process,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # an old locale must not end a command
            stream.reconfigure(errors="backslashreplace")
    terminal = Terminal()
    try:
        cli(prog_name="statejobs")
    except Exception as error:  # noqa: BLE001 - a bug: its traceback may quote anything
        terminal.print(traceback_of(error).rstrip(), err=True)
        sys.exit(Exit.FAILED)
    finally:
        terminal.close()

"""Alembic in processes of its own that need not import everything again.

Each is a fork of a process that has done nothing but import, so it starts in milliseconds.
"""

import multiprocessing
import os
import sys
from dataclasses import dataclass

from alembic.config import main

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "alembic.autogenerate",
        "alembic.command",
        "alembic.config",
        "psycopg",
        "statejobs",
        "sqlalchemy.dialects.postgresql.psycopg",
        "sqlalchemy.dialects.sqlite",
    ]
)


@dataclass
class Said:
    """How commands ended, and what they wrote."""

    exit_code: int
    output: str


def run_alembic(commands, directory):
    """Run `alembic` with each of *commands* in *directory*, until one fails."""
    output = directory / "said.txt"
    output.write_text("")
    process = FORKS.Process(target=_run, args=(commands, directory, output))
    process.start()
    process.join()
    return Said(process.exitcode, output.read_text())


def _run(commands, directory, output):
    sys.dont_write_bytecode = True  # models change within a second, and keep their size
    os.chdir(directory)
    with output.open("a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    for command in commands:
        main(argv=command, prog="alembic")

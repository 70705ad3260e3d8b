"""Alembic and our commands in processes of their own that need not import everything again.

Each is a fork of a process that has done nothing but import, so it starts in milliseconds.
"""

import multiprocessing
import os
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection

from alembic.config import main

from statejobs.cli.main import cli

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "alembic.autogenerate",
        "alembic.command",
        "alembic.config",
        "psycopg",
        "rich.traceback",
        "statejobs.cli.main",
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


def run_in_terminal(words, environ, ours, theirs):
    """Run one of our commands with *theirs* as its streams; return what is written to *ours*.

    They are the ends of a terminal, and closed afterwards.
    """
    with Connection(theirs) as held:
        process = FORKS.Process(target=_run_in_terminal, args=(words, environ, held))
        process.start()
    written = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                written += terminal.read(4096)
            except OSError:  # Linux says so when the other end closes
                break
    process.join()
    return written.decode()


def _run_in_terminal(words, environ, held):
    os.environ.clear()
    os.environ.update(environ)
    for stream in range(3):
        os.dup2(held.fileno(), stream)
    held.close()
    cli(words)


def _run(commands, directory, output):
    sys.dont_write_bytecode = True  # models change within a second, and keep their size
    os.chdir(directory)
    with output.open("a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    for command in commands:
        main(argv=command, prog="alembic")

"""Real workers, started through the command line, and what tests wait for."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from statejobs.store.faults import is_away

ROOT = Path(__file__).parents[2]
APP = "tests.support.worker_app:make_app"

DEADLINE = 120  # seconds, where a wait only notices a hang: the machine may be busy with others


def eventually(holds, explain=lambda: "", *, seconds=DEADLINE):
    """Poll until *holds* returns something true, and return it; else fail with what explains it.

    A connection that a busy machine does not give in time is asked for again.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if found := holds():
                return found
        except SQLAlchemyError as error:
            if not is_away(error):
                raise
        time.sleep(0.03)  # noqa: TID251
    raise AssertionError(f"not within {seconds} s: {holds} {explain()}")


def statejobs(*args, database):
    """Run one command of the command line."""
    command = [
        sys.executable,
        "-m",
        "statejobs",
        "--app",
        APP,
        "--database",
        database,
        *args,
    ]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


@contextlib.contextmanager
def worker(database, log, *options, app=APP):
    """Run `statejobs worker` until the end of the block; it is ended by its process id."""
    command = [
        sys.executable,
        "-m",
        "statejobs",
        "--app",
        app,
        "--database",
        database,
        "worker",
    ]
    with (
        log.open("ab") as stream,
        subprocess.Popen(
            [*command, *options], cwd=ROOT, stdout=stream, stderr=stream
        ) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(DEADLINE)
            if process.poll() is None:
                process.kill()


def kill(pid, number):
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)

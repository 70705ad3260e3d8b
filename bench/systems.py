"""What is measured: each system is a command that runs one or more worker processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import psutil

from bench.app import (
    FINISH_VARIABLE,
    AsyncOrder,
    AtomicOrder,
    BookedOrder,
    ChunkOrder,
    JsonOrder,
    Order,
    QuietOrder,
)
from bench.databases import Database
from statejobs import StatefulResource

_PATIENCE = 15.0  # seconds that a worker may take to end


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Something that runs the jobs of a database."""

    name: str
    command: tuple[str, ...]
    """Arguments of Python for one process; `statejobs worker` runs several by itself."""
    resource: type[StatefulResource] | None = Order
    """Whose jobs it runs; None for tasks, which have no record."""
    is_floor: bool = True
    environment: tuple[tuple[str, str], ...] = ()
    """Variables by which it differs from another with the same command."""
    per_batch: bool = False
    """It commits once for many jobs: what a crash takes back is more than one job."""

    @property
    def writes_history(self) -> bool:
        """Whether each job leaves two rows of history."""
        return self.resource not in (QuietOrder, None)


def statejobs(
    name: str = "statejobs",
    resource: type[StatefulResource] | None = Order,
    *,
    per_batch: bool = True,
    environment: tuple[tuple[str, str], ...] = (),
) -> System:
    """Return statejobs itself, through its command line."""
    command = (
        "-m",
        "statejobs",
        "worker",
        "--app",
        "bench.app:make_app",
        "--log-level",
        "warning",
    )
    return System(
        name=name,
        command=command,
        resource=resource,
        is_floor=False,
        per_batch=per_batch,
        environment=environment,
    )


def floor(name: str, module: str, *options: str, per_batch: bool = False) -> System:
    """Return a hand-written floor."""
    return System(name=name, command=("-m", module, *options), per_batch=per_batch)


def task_floor(name: str, kind: str, per_commit: int) -> System:
    """Return a hand-written floor that runs tasks on *kind* of database."""
    command = ("-m", f"bench.floors.tasks_{kind}", str(per_commit))
    return System(name=name, command=command, resource=None, per_batch=per_commit > 1)


STATEJOBS = statejobs()
EACH = statejobs(
    "statejobs, a commit each", per_batch=False, environment=((FINISH_VARIABLE, "1"),)
)
QUIET = statejobs("statejobs, history off", QuietOrder)
ASYNC = statejobs("statejobs, async def", AsyncOrder)
CHUNK = statejobs("statejobs, chunk=100", ChunkOrder)
ATOMIC = statejobs("statejobs, atomic", AtomicOrder)
JSON_COLUMN = statejobs("statejobs, JSON column", JsonOrder)
SECOND_ROW = statejobs("statejobs, atomic, second row", BookedOrder)
ONE_STATEMENT = floor("floor: one statement", "bench.floors.one_statement")
FIVE_STATEMENTS = floor("floor: five statements", "bench.floors.five_statements")
BULK = floor("floor: bulk of 100", "bench.floors.bulk", per_batch=True)
SQLITE_JOB = floor("floor: transaction per job", "bench.floors.sqlite", "1")
SQLITE_BATCH = floor(
    "floor: transaction per 100", "bench.floors.sqlite", "100", per_batch=True
)
TASKS = statejobs("statejobs", None)
TASK_FLOORS = {
    kind: (
        task_floor("floor: commit per 100", kind, 100),
        task_floor("floor: commit per job", kind, 1),
    )
    for kind in ("postgresql", "sqlite")
}


@contextlib.contextmanager
def running(
    system: System, database: Database, workers: int
) -> Iterator[list[psutil.Process]]:
    """Run *workers* processes of *system* while the block runs; end them in order."""
    commands = [list(system.command)] * workers
    if not system.is_floor:
        commands = [[*system.command, "--processes", str(workers)]]
    with contextlib.ExitStack() as stack:
        variables = {**database.environment, **dict(system.environment)}
        yield [
            stack.enter_context(_process(command, variables)) for command in commands
        ]


@contextlib.contextmanager
def _process(
    command: Sequence[str], variables: Mapping[str, str]
) -> Iterator[psutil.Process]:
    with tempfile.TemporaryFile() as log:
        process = psutil.Popen(
            [sys.executable, *command],
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
            if process.poll() is not None:
                log.seek(0)
                raise WorkerDiedError(command, log.read().decode(errors="replace"))
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait()


class WorkerDiedError(Exception):
    """A worker process ended while it was measured."""

    def __init__(self, command: Sequence[str], log: str) -> None:
        super().__init__(f"{' '.join(command)} ended by itself:\n{log[-2000:]}")

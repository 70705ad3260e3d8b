"""Worker processes: started, ready, measured, stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from bench.environment import cpu_of, resident_megabytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a worker process runs."""

    system: str
    """`statejobs`, or the name of a floor."""
    url: str
    model: str = "Order"
    limit: int = 20
    """How many jobs a statejobs worker runs at once."""
    synchronous: str = "FULL"


class Workers:
    """Running worker processes."""

    def __init__(self, running: list[subprocess.Popen[str]]) -> None:
        self._running = running

    def cpu(self) -> float:
        """Return the seconds of CPU that they have used."""
        return cpu_of(process.pid for process in self._running)

    def megabytes(self) -> float:
        """Return the memory that they hold."""
        return sum(resident_megabytes(process.pid) for process in self._running)

    def readline(self) -> str:
        """Return the next line that the first of them writes."""
        output = self._running[0].stdout
        assert output is not None  # noqa: S101 - it is a pipe
        line = output.readline()
        if not line:
            raise RuntimeError("a worker process ended")
        return line

    def check(self) -> None:
        """Raise when one of them died."""
        for process in self._running:
            if process.poll() is not None:
                raise RuntimeError(f"a worker process ended with {process.returncode}")


@contextmanager
def running(spec: Spec, processes: int = 1) -> Iterator[Workers]:
    """Run *processes* workers; they end when their input does."""
    started = [_start(spec) for _ in range(processes)]
    try:
        for process in started:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{spec.system} did not start")
        yield Workers(started)
    finally:
        for process in started:
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            process.stdin.close()
        for process in started:
            process.wait(timeout=30)


def _start(spec: Spec) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.worker", json.dumps(asdict(spec))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

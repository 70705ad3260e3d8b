"""A worker process as its supervisor sees it: two pipes, and signals that it may not miss."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from statejobs.runner.supervisor import Order

HANDLED = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1})
"""Blocked until the child has handlers: a signal during its start waits instead of killing."""


class WorkerProcess:
    """A spawned child. Its stdin brings orders; when that ends, so does the child.

    Orders do not go by signal: a service manager sends SIGTERM to parent and children alike, and
    the second would be taken for impatience.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._news, theirs = os.pipe()
        os.set_blocking(self._news, False)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [*command, "--ready-fd", str(theirs)],
                stdin=subprocess.PIPE,
                pass_fds=[theirs],
                env=dict(environ),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(theirs)
        self.pid = self._process.pid
        self._grace: float | None = None

    def exit_code(self) -> int | None:
        """Return how it ended; None while it lives."""
        code = self._process.poll()
        if code is not None:
            self.grace()  # what it said before it ended
            self._close()
        return code

    def grace(self) -> float | None:
        """Return the seconds that its jobs get at a stop; None until it serves."""
        if self._grace is None and self._news >= 0:
            with contextlib.suppress(BlockingIOError):
                said = os.read(self._news, 64)
                self._grace = float(said) if said else None
        return self._grace

    def tell(self, order: Order) -> None:
        """Send *order*."""
        assert self._process.stdin is not None  # noqa: S101 - a PIPE was asked for
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(f"{order}\n".encode())
            self._process.stdin.flush()

    def dump_stacks(self) -> None:
        """Let it print what its threads do."""
        self._process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def _close(self) -> None:
        if self._news < 0:
            return
        os.close(self._news)
        self._news = -1
        assert self._process.stdin is not None  # noqa: S101
        with contextlib.suppress(OSError):
            self._process.stdin.close()

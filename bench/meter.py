"""What a run costs beside time: CPU of workers and server, WAL, and who else was busy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
from sqlalchemy import text

from bench.databases import Database

_WAL = text("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    at: float
    busy: float
    workers: float
    server: float | None
    wal: int | None


class Meter:
    """Reads twice; the figures are the differences."""

    def __init__(self, database: Database, processes: Sequence[psutil.Process]) -> None:
        self._database, self._processes = database, processes

    def start(self) -> None:
        """Begin."""
        self._first = self._read()

    def stop(self) -> None:
        """End, and work the figures out."""
        first, last = self._first, self._read()
        self.worker_seconds = last.workers - first.workers
        self.server_seconds = _difference(last.server, first.server)
        self.wal_bytes = _difference(last.wal, first.wal)
        ours = self.worker_seconds + (self.server_seconds or 0)
        self.other_cores = max(0.0, (last.busy - first.busy - ours) / (last.at - first.at))

    def _read(self) -> _Reading:
        times = psutil.cpu_times()
        server = self._database.server
        return _Reading(
            at=time.monotonic(),
            busy=sum(times) - times.idle - times.iowait,
            workers=sum(map(cpu_seconds, self._processes)),
            server=None if server is None else cpu_seconds(server),
            wal=None if self._database.is_sqlite else self._wal(),
        )

    def _wal(self) -> int:
        with self._database.app.engine.connect() as connection:
            return int(connection.execute(_WAL).scalar_one())


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its descendants."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = one.cpu_times()
            total += times.user + times.system
    return total


def _difference(last: float | None, first: float | None) -> float | None:
    return None if last is None or first is None else last - first

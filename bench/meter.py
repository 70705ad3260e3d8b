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
class Sample:
    """One run."""

    rate: float
    """Finished jobs per second, from the first claim to the last finish."""
    worker_ms: float | None = None
    """CPU of the worker processes for each job."""
    server_ms: float | None = None
    wal_bytes: float | None = None
    other_cores: float = 0.0
    """How many cores programs that are not measured kept busy meanwhile."""


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
        """End."""
        self._last = self._read()

    def sample(self, count: int, seconds: float) -> Sample:
        """Return what each of *count* jobs cost, which took *seconds* in all."""
        first, last = self._first, self._last
        workers = last.workers - first.workers
        server, wal = (
            _difference(last.server, first.server),
            _difference(last.wal, first.wal),
        )
        others = last.busy - first.busy - workers - (server or 0)
        return Sample(
            rate=count / seconds,
            worker_ms=workers / count * 1000,
            server_ms=None if server is None else server / count * 1000,
            wal_bytes=None if wal is None else wal / count,
            other_cores=max(0.0, others / (last.at - first.at)),
        )

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

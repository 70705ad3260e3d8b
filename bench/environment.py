"""Where the runs happen: a durable PostgreSQL of our own, and SQLite files beside it."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from tests.support.postgres import PostgresServer

SETTINGS: dict[str, str | int] = {
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",  # no checkpoint in the middle of a run
    "wal_compression": "off",
}
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A server and a directory; both are thrown away after."""

    server: PostgresServer
    directory: Path
    quick: bool
    _numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def postgres(self) -> Iterator[str]:
        """Make an empty database; drop it at the end."""
        name = f"bench_{next(self._numbers)}"
        self.server.create_database(name)
        try:
            yield self.server.url(name)
        finally:
            self.server.drop_database(name)

    @contextmanager
    def sqlite(self) -> Iterator[str]:
        """Make a directory for one file; remove it at the end."""
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            yield f"sqlite:///{directory}/bench.db"

    def server_cpu(self) -> float:
        """Return the seconds of CPU that the server's processes have used."""
        postmaster = int((self.server.home / "data/postmaster.pid").read_text().split()[0])
        used = _times(postmaster)
        return sum(used) + cpu_of(_children(postmaster))

    def describe(self) -> dict[str, str]:
        """Return versions and the settings that decide what survives a power cut."""
        with connect(self.server.url()) as connection:
            shown = {
                name: str((connection.execute(f"show {name}").fetchone() or ("",))[0])
                for name in ("server_version", "fsync", "synchronous_commit", "full_page_writes")
            }
        return {
            **{f"postgresql {name}": value for name, value in shown.items()},
            "sqlite": sqlite3.sqlite_version,
            "sqlite synchronous": "FULL unless a row says NORMAL",
            "sqlite journal_mode": "WAL",
            "cores": str(os.cpu_count()),
        }


@contextmanager
def open_environment(*, quick: bool) -> Iterator[Environment]:
    """Start a server with full durability; stop it at the end."""
    server = PostgresServer().start(durable=True, settings=SETTINGS)
    try:
        with tempfile.TemporaryDirectory(prefix="statejobs-bench-") as directory:
            yield Environment(server=server, directory=Path(directory), quick=quick)
    finally:
        server.stop()


def connect(url: str) -> psycopg.Connection:
    """Open a raw connection in autocommit to a SQLAlchemy *url*."""
    plain = make_url(url).set(drivername="postgresql")
    return psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True)


def cpu_of(processes: Iterable[int]) -> float:
    """Return the seconds of CPU that live *processes* have used, reaped children excluded."""
    return sum(sum(_times(pid)[:2]) for pid in processes)


def resident_megabytes(pid: int) -> float:
    """Return the memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _times(pid: int) -> tuple[float, float, float, float]:
    """User and system seconds of a process, then those of its reaped children."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:  # it ended between the listing and now
        return (0.0, 0.0, 0.0, 0.0)
    user, system, reaped_user, reaped_system = (
        int(part) / _TICKS for part in text.rpartition(")")[2].split()[11:15]
    )
    return (user, system, reaped_user, reaped_system)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]

"""What the figures were measured on, read from the machine and from the servers."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import text

from bench.databases import Databases

_SETTINGS = (
    "fsync",
    "synchronous_commit",
    "wal_level",
    "full_page_writes",
    "shared_buffers",
)
_SYNCS = 200


def describe(databases: Databases) -> dict[str, Any]:
    """Return versions, cores and what makes commits durable, by name."""
    return {
        "python": platform.python_version(),
        "sqlalchemy": version("sqlalchemy"),
        "psycopg": version("psycopg"),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "kernel": platform.release(),
        "fdatasync_per_second": round(_syncs_per_second(databases.directory)),
        "postgresql": _postgres(databases),
        "sqlite": {
            kind: _sqlite(databases, kind) for kind in ("sqlite FULL", "sqlite NORMAL")
        },
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _syncs_per_second(directory: Path) -> float:
    """Return how often the disk makes 8 kB durable: the ceiling of one committing connection."""
    path = directory / "syncs"
    with path.open("wb", buffering=0) as file:
        began = time.perf_counter()
        for _ in range(_SYNCS):
            file.seek(0)
            file.write(b"x" * 8192)
            os.fdatasync(file.fileno())
        seconds = time.perf_counter() - began
    path.unlink()
    return _SYNCS / seconds


def _postgres(databases: Databases) -> dict[str, str]:
    database = databases.fresh("postgresql")
    try:
        with database.app.engine.connect() as connection:
            names = ("server_version", *_SETTINGS)
            return {
                n: connection.execute(text(f"SHOW {n}")).scalar_one() for n in names
            }
    finally:
        databases.discard(database)


def _sqlite(databases: Databases, kind: str) -> dict[str, str]:
    levels = ("OFF", "NORMAL", "FULL", "EXTRA")
    database = databases.fresh(kind)
    try:
        with database.app.engine.connect() as connection:
            level = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
            journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    finally:
        databases.discard(database)
    return {
        "version": sqlite3.sqlite_version,
        "journal_mode": journal,
        "synchronous": levels[level],
    }

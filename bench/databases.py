"""Databases to measure on: durable, on the local disk, a fresh one for each system."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.app import LIMIT_VARIABLE, SYNCHRONOUS_VARIABLE, make_app
from statejobs import StateJobs
from tests.support.postgres import PostgresDatabases, PostgresServer

URL_VARIABLE = "STATEJOBS_BENCH_POSTGRES_URL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One fresh database, with the tables of the app in it."""

    kind: str
    """`postgresql`, `sqlite FULL` or `sqlite NORMAL`."""
    url: str
    app: StateJobs
    server: psutil.Process | None = None
    """The database server, where it is ours to look at."""

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file."""
        return self.kind.startswith("sqlite")

    @property
    def environment(self) -> dict[str, str]:
        """What a worker process needs to open it in the same way."""
        return {
            "STATEJOBS_DATABASE": self.url,
            SYNCHRONOUS_VARIABLE: self.kind.rpartition(" ")[2],
            LIMIT_VARIABLE: os.environ.get(LIMIT_VARIABLE, "8"),
        }


@dataclass(slots=True, kw_only=True)
class Databases:
    """Makes fresh databases; all are gone at the end."""

    directory: Path
    postgres: PostgresDatabases
    server: psutil.Process | None
    made: int = field(default=0)

    def fresh(self, kind: str) -> Database:
        """Return a new database of *kind*."""
        self.made += 1
        name = f"bench_{os.getpid()}_{self.made}"
        if kind == "postgresql":
            self.postgres.create_database(name)
            url = self.postgres.url(name)
        else:
            url = f"sqlite:///{self.directory / name}.db"
        os.environ[SYNCHRONOUS_VARIABLE] = kind.rpartition(" ")[2]
        app = make_app(url)
        app.create_all()
        server = self.server if kind == "postgresql" else None
        return Database(kind=kind, url=url, app=app, server=server)

    def discard(self, database: Database) -> None:
        """Drop *database*."""
        database.app.engine.dispose()
        if database.is_sqlite:
            for path in self.directory.glob(f"{Path(database.url).name}*"):
                path.unlink()
        else:
            self.postgres.drop_database(database.url.rpartition("/")[2])


@contextlib.contextmanager
def open_databases() -> Iterator[Databases]:
    """Start a durable PostgreSQL, or use the one that STATEJOBS_BENCH_POSTGRES_URL names."""
    with tempfile.TemporaryDirectory(prefix="statejobs-bench-") as directory:
        if url := os.environ.get(URL_VARIABLE):
            yield Databases(
                directory=Path(directory), postgres=PostgresDatabases(url), server=None
            )
            return
        server = PostgresServer().start(
            durable=True, settings={"shared_buffers": "512MB"}
        )
        try:
            pid = int((server.home / "data/postmaster.pid").read_text().split()[0])
            yield Databases(
                directory=Path(directory), postgres=server, server=psutil.Process(pid)
            )
        finally:
            server.stop()

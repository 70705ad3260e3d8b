"""Drives one library through its script, on a fresh database of the same durable server."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from sqlalchemy import create_engine, text

from bench.databases import Database
from bench.meter import Meter, Sample
from bench.peers.catalogue import Peer
from bench.peers.environments import UnavailableError
from bench.peers.redis import RedisServer

SCRIPTS = Path(__file__).parent / "scripts"
_LONGEST = 120.0  # seconds
_OPEN_ORDERS = "SELECT count(*) FROM orders WHERE state <> 'completed'"


class PeerRun:
    """A library on its database."""

    def __init__(self, peer: Peer, python: Path, database: Database) -> None:
        self._peer, self._python, self._database = peer, python, database
        url = database.url.replace("+psycopg", "")
        self._engine = create_engine(database.app.engine.url)
        with self._engine.begin() as connection:
            # the library's has no machine
            connection.execute(text("DROP TABLE orders"))
        self._environment = {
            **os.environ,
            "STATEJOBS_BENCH_URL": url,
            "PYTHONPATH": str(SCRIPTS),
        }
        self._redis = RedisServer() if peer.open_keys else None
        if self._redis is not None:
            self._environment["STATEJOBS_BENCH_REDIS"] = self._redis.url
        self._call("install")

    def enqueue(self, count: int) -> Sample:
        """Measure W1: enqueue *count* jobs, a commit each."""
        rate = json.loads(self._call("enqueue", "W1", str(count)).splitlines()[-1])[
            "rate"
        ]
        self._forget_jobs()
        return Sample(rate=rate)  # its CPU is mostly that of starting Python

    def drain(self, kind: str, count: int, workers: int) -> Sample:
        """Measure W3 or W4: from the first action's start until the store says all are finished."""
        self._call("enqueue", kind, str(count))
        with tempfile.TemporaryDirectory() as marks, contextlib.ExitStack() as stack:
            processes = [
                stack.enter_context(self._worker(kind, marks)) for _ in range(workers)
            ]
            meter = Meter(self._database, processes)
            _wait_for(Path(marks))
            meter.start()  # start-up does not count
            ended = self._wait_until_finished(kind)
            meter.stop()
            began = min(float(path.read_text()) for path in Path(marks).iterdir())
        return meter.sample(count, ended - began)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()
        if self._redis is not None:
            self._redis.stop()

    def _forget_jobs(self) -> None:
        if self._redis is not None:
            self._redis.ask("FLUSHALL")
            return
        with self._engine.begin() as connection:
            connection.execute(
                text(self._peer.open_jobs.replace("SELECT count(*)", "DELETE", 1))
            )

    def _is_finished(self, kind: str) -> bool:
        left = [self._peer.open_jobs] if self._redis is None else []
        left += [_OPEN_ORDERS] if kind == "W4" else []
        with self._engine.connect() as connection:
            if any(connection.execute(text(sql)).scalar_one() for sql in left):
                return False
        return self._redis is None or self._redis.count(self._peer.open_keys) == 0

    def _wait_until_finished(self, kind: str) -> float:
        pause = threading.Event()
        give_up_at = time.monotonic() + _LONGEST
        while time.monotonic() < give_up_at:
            if self._is_finished(kind):
                return time.time()
            pause.wait(0.02)
        raise UnavailableError(f"not drained after {_LONGEST:g} s")

    def _command(self, *arguments: str) -> list[str]:
        return [
            str(self._python),
            str(SCRIPTS / f"{self._peer.name}_peer.py"),
            *arguments,
        ]

    def _call(self, *arguments: str) -> str:
        done = subprocess.run(
            self._command(*arguments),
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST,
        )
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise UnavailableError(f"{' '.join(arguments)}: {''.join(last)}")
        return done.stdout

    @contextlib.contextmanager
    def _worker(self, kind: str, marks: str) -> Iterator[psutil.Process]:
        process = psutil.Popen(
            self._command("work", kind),
            env={**self._environment, "STATEJOBS_BENCH_MARKS": marks},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            for one in (
                process,
                *process.children(recursive=True),
            ):
                # some leave children behind
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()


def _wait_for(marks: Path) -> None:
    pause = threading.Event()
    give_up_at = time.monotonic() + _LONGEST
    while not any(marks.iterdir()):
        if time.monotonic() > give_up_at:
            raise UnavailableError(f"its worker began no job within {_LONGEST:g} s")
        pause.wait(0.005)

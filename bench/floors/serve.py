"""What the floors on PostgreSQL share: threads that run batches, and a LISTEN connection."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Protocol

import psycopg

THREADS = 4
CHANNEL = "statejobs_public"


class Floor(Protocol):
    """One thread of a floor, with its own connection."""

    def run_batch(self) -> int:
        """Claim a batch, run and finish it; return how many jobs there were."""
        ...


def serve(make: Callable[[str], Floor], *, threads: int = THREADS) -> None:
    """Run floors until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    url = os.environ["STATEJOBS_DATABASE"].replace("+psycopg", "")
    wakes = [threading.Event() for _ in range(threads)]
    for wake in wakes:
        threading.Thread(target=_run, args=(make(url), wake), daemon=True).start()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"LISTEN {CHANNEL}")
        while True:
            for _ in connection.notifies(timeout=1, stop_after=1):
                pass
            for wake in wakes:
                wake.set()


def _run(floor: Floor, wake: threading.Event) -> None:
    while True:
        wake.clear()
        if not floor.run_batch():
            wake.wait()

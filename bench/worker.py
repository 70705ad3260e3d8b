"""A worker process of the benchmark: `python -m bench.worker SPEC`. Ends when its input does."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bench.floors import FLOORS
from bench.processes import Spec
from bench.records import make_app


def main() -> None:
    """Serve until the standard input is closed."""
    logging.basicConfig(level=logging.WARNING)
    spec = Spec(**json.loads(sys.argv[1]))
    serve = _statejobs if spec.system == "statejobs" else _floor
    with serve(spec):
        print("ready", flush=True)
        sys.stdin.read()


@contextmanager
def _statejobs(spec: Spec) -> Iterator[None]:
    app = make_app(spec.url, model=spec.model, limit=spec.limit, synchronous=spec.synchronous)
    with app.running():
        yield


@contextmanager
def _floor(spec: Spec) -> Iterator[None]:
    floor = FLOORS[spec.system]
    stop = threading.Event()
    threads = [
        threading.Thread(target=floor.serve, args=(spec, stop), daemon=True)
        for _ in range(floor.threads)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=10)


if __name__ == "__main__":
    main()

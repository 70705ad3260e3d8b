"""Hand-written programs that do a part of what statejobs does: what is possible here at best."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from bench.floors import drain
from bench.processes import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """A program that drains jobs in several threads."""

    serve: Callable[[Spec, threading.Event], None]
    threads: int


FLOORS = {
    "five-statement": Floor(serve=drain.five_statements, threads=4),
    "one-statement": Floor(serve=drain.one_statement, threads=4),
    "one-statement, same work": Floor(serve=drain.one_statement_same_work, threads=4),
    "orm session per job": Floor(serve=drain.session_per_job, threads=4),
    "batched": Floor(serve=drain.batched, threads=1),
    "no-op, commit per job": Floor(serve=drain.no_op_per_job, threads=4),
    "no-op, commit per batch": Floor(serve=drain.no_op_per_batch, threads=1),
}

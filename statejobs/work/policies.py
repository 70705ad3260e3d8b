"""How the jobs of a key are run, by what its trigger or task was declared with."""

from __future__ import annotations

from typing import cast

from statejobs.runner.port import Chunk, Policy
from statejobs.values.options import TaskOptions


def policy_of(
    options: TaskOptions,
    *,
    is_async: bool,
    chunk: Chunk | None = None,
    during: str | None = None,
) -> Policy:
    """Return how jobs are run that were declared with *options*; see `Policy` for the others."""
    return Policy(
        max_attempts=options.max_attempts,
        max_crashes=options.max_crashes,
        max_snoozes=options.max_snoozes,
        backoff=options.wait,
        timeout=options.timeout,
        is_async=is_async,
        chunk=chunk,
        during=during,
        is_paused=options.paused,
        log_levels={
            # numbers, as their checks returned them
            "fail": cast("int", options.log_level),
            "discard": cast("int", options.log_final_level),
        },
    )

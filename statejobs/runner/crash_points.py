"""Named points at which tests let a process die."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class CrashPoint(StrEnum):
    """Between which steps a process may end."""

    CLAIM_BEFORE_COMMIT = "claim.before_commit"
    CLAIMED = "claim.committed"
    BODY_RETURNED = "run.returned"
    FINISH_FLUSHED = "finish.flushed"
    FINISH_RECORD_MOVED = "finish.record_moved"
    FINISH_BEFORE_COMMIT = "finish.before_commit"
    FINISHED = "finish.committed"
    RESCUE_BEFORE_COMMIT = "rescue.before_commit"


Reach = Callable[[CrashPoint], None]


def live_on(_point: CrashPoint) -> None:
    """What production does at every point: nothing."""

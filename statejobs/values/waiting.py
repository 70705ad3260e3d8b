"""How long a job waits that was put back without an attempt, since nothing was wrong with it."""

from __future__ import annotations

import random
from datetime import timedelta

OTHER_CODE = "waits for other code: "
"""How the reason of a job begins that other code, or a worker of another role, may run."""
LEAST = timedelta(seconds=5)
MOST = timedelta(minutes=10)
_JITTER = 0.25


def wait_again(
    waited: timedelta,
    rng: random.Random,
    *,
    least: timedelta = LEAST,
    most: timedelta = MOST,
) -> timedelta:
    """Return as long again as it has *waited*: soon at first, and seldom when it takes long.

    Args:
        waited: Since it was enqueued.
        rng: Adds up to a quarter, so that those put back together do not come back together.
        least: No wait is shorter.
        most: No wait is longer, but for what chance adds.
    """
    return min(max(waited, least), most) * (1 + _JITTER * rng.random())

"""What tasks returned, and how people wait for it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from statejobs.errors import JobNotCompletedError, NotFoundError, WaitTimeoutError
from statejobs.people.desk import Desk
from statejobs.values.job import ENDED, Job, JobState

_FIRST_LOOK = 0.02  # seconds between two looks, of which each waits for twice as long
_LAST_LOOK = 0.5


def result_of(desk: Desk, job_id: int) -> Any:
    """Return what the task of a job returned, as JSON values; None when there is nothing.

    Raises:
        NotFoundError: No such job.
    """
    return _value_of(_find(desk, job_id))


def result_at_end(desk: Desk, job_id: int, timeout: timedelta | None) -> Any:
    """Wait until a job has ended; return what its task returned.

    Raises:
        NotFoundError: No such job, or no longer.
        JobNotCompletedError: It ended, and was not completed.
        WaitTimeoutError: It has not ended in time.
    """
    clock = desk.sources.clock
    until = None if timeout is None else clock.monotonic() + timeout.total_seconds()
    pause = _FIRST_LOOK
    while True:
        job = _find(desk, job_id)
        if job.state in ENDED:
            break
        left = pause if until is None else until - clock.monotonic()
        if left <= 0:
            raise WaitTimeoutError(
                f"job {job_id} is {job.state} after {timeout}",
                why="no worker has run it to its end in that time",
                fix=f"see: statejobs job show {job_id}",
            )
        desk.sources.sleep(min(pause, left))
        pause = min(pause * 2, _LAST_LOOK)
    if job.state is not JobState.COMPLETED:
        raise JobNotCompletedError(job)
    return _value_of(job)


def _find(desk: Desk, job_id: int) -> Job:
    job = desk.queries.job(job_id)
    if job is None:
        raise NotFoundError(
            f"no job {job_id}", fix="list them with: statejobs job list"
        )
    return job


def _value_of(job: Job) -> Any:
    return None if job.result is None else json.loads(job.result)

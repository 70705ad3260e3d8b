"""Why nothing runs for a record that rests in a state which promises a job."""

from __future__ import annotations

from collections.abc import Sequence

from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.values.job import LIVE, WAITING, Job, JobState
from statejobs.work.records.stuck import is_stuck


def why_nothing_runs(
    model: ResourceModel, state: str, jobs: Sequence[Job]
) -> str | None:
    """Say that a record in *state* is promised a job, and that none of *jobs* will run.

    Args:
        model: Its resource.
        state: Where it is.
        jobs: All of the record, as they may be shown, the newest first.
    """
    return (
        _why_stuck(model, state, jobs)
        or _why_forgotten(model, state, jobs)
        or _why_all_wait(model, jobs)
    )


def why_paused(key: str) -> str:
    """Say that no job of *key* is started."""
    return (
        f"{key!r} is paused: its jobs wait until code without paused=True is deployed"
    )


def _why_stuck(model: ResourceModel, state: str, jobs: Sequence[Job]) -> str | None:
    if any(job.state is JobState.PROCESSING for job in jobs):
        return None
    for bound in model.triggers.values():
        last = next(iter(_jobs_of(bound, jobs)), None)
        if last is not None and is_stuck(bound, last, state):
            return (
                f"it is stuck in {state!r}: job {last.id} of {bound.key!r} is {last.state} "
                f"({last.reason}). Move it back and let the job go on with: "
                f"statejobs job retry {last.id}"
            )
    return None


def _why_forgotten(model: ResourceModel, state: str, jobs: Sequence[Job]) -> str | None:
    for key in model.spec.promised_by(state):
        bound = model.triggers[key]
        if bound.options.unique is not None or not bound.targets:
            continue  # its record does not wait for it
        mine = _jobs_of(bound, jobs)
        if not mine:
            return f"it waits in {state!r} for a job of {key!r}, and there is none"
        last = mine[0]
        # and left it there
        has_run = last.state is JobState.COMPLETED and state in bound.targets
        if not has_run and not any(job.state in LIVE for job in mine):
            reason = f" ({last.reason})" if last.reason else ""
            return (
                f"it waits in {state!r}, and nothing runs: job {last.id} of {key!r} is "
                f"{last.state}{reason}. Let it go on with: statejobs job retry {last.id}"
            )
    return None


def _why_all_wait(model: ResourceModel, jobs: Sequence[Job]) -> str | None:
    """Say that what waits is paused, where nothing else is left to run."""
    live = [job for job in jobs if job.state in LIVE]
    paused = {
        key
        for bound in model.triggers.values()
        if bound.options.paused
        for key in (bound.key, *bound.aliases)
    }
    is_paused = all(job.state in WAITING and job.key in paused for job in live)
    return why_paused(live[0].key) if live and is_paused else None


def _jobs_of(bound: BoundTrigger, jobs: Sequence[Job]) -> list[Job]:
    keys = {bound.key, *bound.aliases}
    return [job for job in jobs if job.key in keys]

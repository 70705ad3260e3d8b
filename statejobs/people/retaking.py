"""Keys of `Unique` tasks that ended jobs lost to newer requests, and want when they go on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection

from statejobs.declare.task import Task
from statejobs.errors import StateJobsError
from statejobs.store.retake import (
    Holder,
    holders_of,
    release_key,
    take_key,
)
from statejobs.values.job import ENDED, WAITING, Job, JobState
from statejobs.values.unique import Mark, Unique, held_until
from statejobs.values.unique_key import dedupe_key


@dataclass(frozen=True, slots=True, kw_only=True)
class LostKey:
    """The key that a job would have, were it enqueued now."""

    key: str
    former: tuple[str, ...]
    """The same under the aliases of the task."""
    unique: Unique


def lost_key(task: Task[..., ..., Any], job: Job) -> LostKey | None:
    """Return the key that *job* may have lost when it ended; None when it has or needs none."""
    spec = task.spec
    unique = spec.options.unique
    has_own = job.dedupe_key is not None and job.state is not JobState.COMPLETED
    if has_own or job.state not in ENDED or unique is None:
        return None
    marked = {
        Mark.QUEUE.value: job.queue,
        Mark.TENANT.value: job.tenant,
        Mark.ACTOR.value: job.actor,
    }
    assert spec.unique_keys is not None  # noqa: S101 - it is unique
    try:
        common = spec.unique_keys.shared(job.args, marked)
    except msgspec.MsgspecError:  # its attempt will say so
        return None
    return LostKey(
        key=dedupe_key(spec.key, common),
        former=tuple(dedupe_key(alias, common) for alias in spec.options.aliases),
        unique=unique,
    )


def refuse_held(
    connection: Connection, job: Job, lost: LostKey, now: datetime
) -> list[Holder]:
    """Refuse a *job* whose key another job holds; return those that have it and hold it not.

    Raises:
        StateJobsError: One holds it.
    """
    held = holders_of(connection, [lost.key, *lost.former])
    found = [holder for holder in held if holder.id != job.id]
    for holder in found:
        if _holds(holder, lost.unique, now):
            raise is_followed(job, lost.key, by=holder.id)
    return found


def retake(connection: Connection, job: Job, lost: LostKey, now: datetime) -> None:
    """Give *job* its key again.

    Raises:
        StateJobsError: Another job holds it.
        IntegrityError: Another got it meanwhile.
    """
    for holder in refuse_held(connection, job, lost, now):
        release_key(connection, holder)
    until = held_until(lost.unique, job.enqueued_at)
    take_key(connection, job.id, lost.key, until=until)


def is_followed(job: Job, key: str | None, *, by: int | None = None) -> StateJobsError:
    """Return why the *job* of a task does not go on whose *key* another has."""
    see = f"job list --key {job.key}" if by is None else f"job show {by}"
    return StateJobsError(
        f"job {job.id} cannot go on",
        why=f"a newer job has its key, {key}, which is Unique",
        fix=f"see: statejobs {see}",
    )


def _holds(holder: Holder, unique: Unique, now: datetime) -> bool:
    """Return whether a new request would find the key taken, whatever it then would do."""
    if holder.state is JobState.PROCESSING:
        return unique.while_ == "live"
    if holder.state is JobState.COMPLETED:
        return holder.until is not None and holder.until > now
    return holder.state in WAITING

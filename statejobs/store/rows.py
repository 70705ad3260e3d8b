"""What rows of the job tables say, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from statejobs.store.conditions import FIRST_TIME
from statejobs.values.job import Job, JobState

_STATE = Job.__struct_fields__.index("state")
_STATES = {state.value: state for state in JobState}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek:
    """What a glance at the queues showed."""

    next_due: datetime | None
    ready: frozenset[str]
    """The queues that have work."""
    strangers: frozenset[str]
    """The queues in which jobs wait that are not for us."""
    told: datetime | None
    """The time by the database's own clock; None where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A lease that is still ours."""

    job_id: int
    token: str
    cancel_requested: bool
    reason: str | None
    """Why, when a cancel was asked for; otherwise what an earlier attempt left."""
    is_renewed: bool
    """False when someone has locked the job, who therefore could not be waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a heartbeat showed."""

    is_known: bool
    """Whether the node's row is still there."""
    told: datetime | None
    """The time by the database's own clock; None where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """What is needed of a job whose lease ran out to give it up, though its row cannot be read."""

    id: int
    key: str
    attempt: int
    max_attempts: int
    crashes: int
    owner: str | None
    """The node that held it; None when its record could not be moved back before."""
    token: str | None
    started_at: datetime | None = None


def job_of(row: Row[Any]) -> Job:
    """Return the job that a row of the jobs table holds."""
    values = list(row)
    values[_STATE] = _STATES[values[_STATE]]
    return Job(*values)


def time_of(found: datetime | str | None) -> datetime | None:
    """Return when a job is due; text that is no time counts as long ago, so that it is seen."""
    if not isinstance(found, str):
        return found
    try:
        return datetime.fromisoformat(found).replace(tzinfo=UTC)
    except ValueError:
        return FIRST_TIME

"""What rows of the job tables say, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast, get_args, get_type_hints

from sqlalchemy import Row

from statejobs.errors import UnreadableRowError
from statejobs.store.conditions import FIRST_TIME
from statejobs.store.tables import LARGEST_COUNT
from statejobs.values.job import Job, JobOutcome, JobState
from statejobs.values.meta import read_meta

_STATE = Job.__struct_fields__.index("state")
_META = Job.__struct_fields__.index("meta")
_STATES = {state.value: state for state in JobState}
_OUTCOME = Job.__struct_fields__.index("outcome")
_OUTCOMES = {outcome.value: outcome for outcome in JobOutcome}
_COUNTS = ("attempt", "crashes", "coalesced", "returned", "snoozes")


def _types_of(hint: Any) -> frozenset[type]:
    """Return what the driver gives for a field; members of our enums are text there."""
    types: tuple[Any, ...] = get_args(hint) or (hint,)
    return frozenset(str if issubclass(one, StrEnum) else one for one in types)


_TYPES = {name: _types_of(hint) for name, hint in get_type_hints(Job).items()}
_TYPES["meta"] = frozenset({str, type(None)})  # as JSON
_seen: set[tuple[type, ...]] = set()
"""Types of whole rows that were found right: comparing all of them at once is fast."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek:
    """What a glance at the queues showed."""

    next_due: datetime | None
    next_tick: datetime | None
    """When a schedule of ours is due; in the past, when a tick is to be gone on with."""
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
    token: str | bytes | None
    """As bytes where the database may hold anything in its place."""
    started_at: datetime | None = None


def job_of(row: Row[Any]) -> Job:
    """Return the job that a row of the jobs table holds.

    Raises:
        UnreadableRowError: A value has another type than its column, which SQLite allows, or is so
            large that it cannot be counted up.
    """
    types = tuple(map(type, row))
    if types not in _seen:
        _refuse_types(types, row)
        _seen.add(types)
    values = list(row)
    values[_STATE] = _STATES[values[_STATE]]
    if (outcome := values[_OUTCOME]) is not None:
        values[_OUTCOME] = outcome_of(outcome)
    meta = values[_META]
    values[_META] = {} if meta is None else _meta_of(row, meta)
    job = Job(*values)
    counts = (job.attempt, job.crashes, job.coalesced, job.returned, job.snoozes)
    if max(counts) >= LARGEST_COUNT:
        names = ", ".join(
            name for name in _COUNTS if getattr(job, name) >= LARGEST_COUNT
        )
        raise _unreadable(row, f"cannot count on: {names}")
    return job


def _meta_of(row: Row[Any], text: str) -> dict[str, Any]:
    try:
        return read_meta(text)
    except ValueError as error:
        raise _unreadable(row, f"meta is no JSON: {error}") from error


def _refuse_types(types: tuple[type, ...], row: Row[Any]) -> None:
    wrong = [
        f"{name} is {found.__name__}"
        for (name, allowed), found in zip(_TYPES.items(), types, strict=True)
        if found not in allowed
    ]
    if wrong:
        raise _unreadable(row, ", ".join(wrong))


def _unreadable(row: Row[Any], why: str) -> UnreadableRowError:
    return UnreadableRowError(
        "its row cannot be read",
        where=f"job {row[0]}",
        why=why,
        fix="Mend it by hand: no code of statejobs wrote that",
    )


def outcome_of(stored: str) -> JobOutcome:
    """Return how a job ended; what only newer code knows stays the text that it is."""
    return _OUTCOMES.get(stored, cast("JobOutcome", stored))


def text_of(found: str | bytes | None) -> str | None:
    """Return text that was read by `conditions.as_bytes`, whatever it holds."""
    return found.decode(errors="replace") if isinstance(found, bytes) else found


def time_of(found: datetime | bytes | None) -> datetime | None:
    """Return when a job is due; what is no time counts as long ago, so that it is seen."""
    if not isinstance(found, bytes):
        return found
    try:
        return datetime.fromisoformat(found.decode()).replace(tzinfo=UTC)
    except ValueError:
        return FIRST_TIME

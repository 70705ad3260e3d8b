"""Keys of jobs that are `Unique`: who has them, and how one that lost its own takes it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Executable, bindparam, case, null, update

from statejobs.store.conditions import listed_keys
from statejobs.store.enqueue_unique import find_holders
from statejobs.store.tables import jobs, literal_state
from statejobs.values.job import JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A job that has a key."""

    id: int
    state: JobState
    until: datetime | None
    """Until when, if it has completed."""


def holders_of(connection: Connection, keys: Sequence[str]) -> list[Holder]:
    """Return the jobs that have one of *keys*, for life or for a period."""
    dialect = connection.dialect.name
    rows = connection.execute(find_holders(dialect), listed_keys(keys, dialect))
    return [
        Holder(id=row.id, state=JobState(row.state), until=row.unique_until)
        for row in rows
    ]


def release_key(connection: Connection, holder: Holder) -> None:
    """Take its key from *holder*, if it is as it was found; a completed one shows it still."""
    given = {"job_id": holder.id, "found": holder.state.value}
    connection.execute(_RELEASE, given)


def take_key(
    connection: Connection, job_id: int, key: str, *, until: datetime | None
) -> None:
    """Give a job the *key* that it lost, and until when it is held.

    Raises:
        IntegrityError: Another has it.
    """
    given = {"job_id": job_id, "new_key": key, "until": until}
    connection.execute(_TAKE, given)


def _release_key() -> Executable:
    """Take its key from a job."""
    completed = jobs.c.state == literal_state(JobState.COMPLETED)
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"), jobs.c.state == bindparam("found"))
        .values(
            unique_until=null(),
            dedupe_key=case((completed, jobs.c.dedupe_key), else_=null()),
        )
    )


def _take_key() -> Executable:
    """Give a job a key."""
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job_id"))
        .values(
            dedupe_key=bindparam("new_key"),
            unique_until=bindparam("until", type_=jobs.c.unique_until.type),
        )
    )


_RELEASE = _release_key()
_TAKE = _take_key()

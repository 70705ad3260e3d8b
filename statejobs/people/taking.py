"""What an act locks of a batch: the records of its jobs, then the jobs; as everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from statejobs.errors import StateJobsError
from statejobs.people.desk import Desk
from statejobs.people.handled import Verdicts
from statejobs.record.identity import decode_identities
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.store.lock_order import place_of
from statejobs.store.records import Identity, Place, lock_places, read_places
from statejobs.store.revise import take_jobs
from statejobs.values.job import Job, JobState

_KNOWN = frozenset(JobState)


@dataclass(slots=True, kw_only=True)
class Standing:
    """Where the record of a job is; locked."""

    model: ResourceModel
    bound: BoundTrigger
    identity: Identity
    place: Place | None
    """None when it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Jobs that an act is to do something to."""

    jobs: Sequence[Job]
    """As they were read."""
    waits: bool
    """Whether it waits for others, who hold a job or its record."""


def by_model(desk: Desk, jobs: Iterable[Job]) -> list[tuple[ResourceModel, list[Job]]]:
    """Return the jobs of records that are declared, in the order in which their tables come.

    A job that was parted from its record has none.
    """
    found: dict[ResourceModel, list[Job]] = {}
    for job in jobs:
        declared = desk.registry.triggers.get(job.key)
        if declared is not None and job.dedupe_key is not None:
            found.setdefault(declared[0], []).append(job)
    return sorted(found.items(), key=lambda item: place_of(item[0].table))


def take_records(
    desk: Desk,
    connection: Connection,
    jobs: Iterable[Job],
    *,
    waits: bool,
    verdicts: Verdicts,
) -> dict[int, Standing]:
    """Lock the records of *jobs*; return where that of each job is.

    Those whose record somebody else holds are noted in *verdicts*, if nobody is waited for.
    """
    standing: dict[int, Standing] = {}
    for model, own in by_model(desk, jobs):
        keys = decode_identities(model.mapper, [job.record_id or "" for job in own])
        identities = list(dict.fromkeys(key for key in keys if key is not None))
        places = _lock(connection, model, identities, waits=waits)
        for job, identity in zip(own, keys, strict=True):
            if identity in places.held:
                verdicts.locked.append(job)
                continue
            standing[job.id] = Standing(
                model=model,
                bound=desk.registry.triggers[job.key][1],
                identity=identity or (),
                place=places.found.get(identity or ()),
            )
    return standing


def take(connection: Connection, chosen: Chosen, *, verdicts: Verdicts) -> list[Job]:
    """Lock the jobs of *chosen* that no verdict is on; return those that are as they were read."""
    judged = {job.id for job in verdicts.locked}
    meant = [job for job in chosen.jobs if job.id not in judged]
    if not meant:
        return []
    states = take_jobs(connection, [job.id for job in meant], waits=chosen.waits)
    taken = []
    for job in meant:
        if states.get(job.id) != job.state:
            verdicts.locked.append(job)
        elif job.state not in _KNOWN:
            verdicts.refuse(job, _unknown_state(job))
        else:
            taken.append(job)
    return taken


def _unknown_state(job: Job) -> StateJobsError:
    return StateJobsError(
        f"job {job.id} is left as it is",
        why=f"this version of statejobs does not know its state, {str(job.state)!r}",
        fix="use the version that wrote it",
    )


@dataclass(frozen=True, slots=True)
class _Locked:
    found: dict[Identity, Place]
    held: frozenset[Identity]


def _lock(
    connection: Connection,
    model: ResourceModel,
    identities: Sequence[Identity],
    *,
    waits: bool,
) -> _Locked:
    if not identities:
        return _Locked({}, frozenset())
    found = lock_places(connection, model.records, identities, skip_locked=not waits)
    missing = [identity for identity in identities if identity not in found]
    if waits or not missing:
        return _Locked(found, frozenset())
    return _Locked(found, frozenset(read_places(connection, model.records, missing)))

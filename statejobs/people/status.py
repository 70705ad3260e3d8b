"""How things stand: queues, workers, records, and what nobody can move, on one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import DBAPIError

from statejobs.people.acts import stuck_jobs
from statejobs.people.desk import Desk
from statejobs.people.jobs import ShownJob, all_shown
from statejobs.people.workers import ShownWorker, living_workers, workers
from statejobs.record.model import ResourceModel
from statejobs.store.engines.addresses import shown_url
from statejobs.store.faults import Fault, fault_of, words_of
from statejobs.store.look import count_by
from statejobs.store.queries import AtLeast
from statejobs.values.job import WAITING, JobState
from statejobs.values.shown import shown_row


@dataclass(frozen=True, kw_only=True)
class QueueStatus:
    """A queue of the app, or one that holds jobs."""

    queue: str
    limit: int | None
    states: Mapping[str, int]
    """How many of its jobs are in each state."""
    at_least: tuple[str, ...]
    """States of which there may be more."""
    oldest_queued_at: datetime | None
    oldest_queued_seconds: float | None
    workers: int
    """How many live that serve it."""


@dataclass(frozen=True, kw_only=True)
class WaitingForCode:
    """Jobs that do not fit the code of the workers that met them."""

    key: str
    reason: str
    count: int


@dataclass(frozen=True, kw_only=True)
class PausedKey:
    """A trigger or task that is declared with `paused=True`."""

    key: str
    waiting: int
    """How many jobs of it wait."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """How things stand."""

    app: str
    """How the app was named."""
    database: str
    queues: tuple[QueueStatus, ...]
    unserved: tuple[str, ...]
    """Queues that no worker serves which lives: those of the app, and others where jobs wait."""
    workers: tuple[ShownWorker, ...]
    records: Mapping[str, Mapping[str, int]]
    """Resource → state → how many."""
    uncounted: Mapping[str, str]
    """Resource → why its records cannot be counted."""
    stuck: tuple[ShownJob, ...]
    """Given up, their records left where they ran."""
    put_aside: tuple[ShownJob, ...]
    """Of records that cannot be moved back yet."""
    waiting_for_other_code: tuple[WaitingForCode, ...]
    paused: tuple[PausedKey, ...]
    """What the code of this command declares so."""


def status_of(desk: Desk, app: str) -> Status:
    """Return how things stand in the app that is called *app*."""
    records, uncounted = _count_records(desk)
    paused = desk.queries.waiting_of(desk.registry.paused_keys())
    waiting = desk.queries.waiting_for_other_code(desk.now())
    listed = queues(desk)
    return Status(
        app=app,
        database=shown_url(desk.store.engine.url),
        queues=listed,
        unserved=tuple(one.queue for one in listed if _is_unserved(one)),
        workers=workers(desk),
        records=records,
        uncounted=uncounted,
        stuck=all_shown(desk, stuck_jobs(desk)),
        put_aside=all_shown(desk, desk.queries.put_aside()),
        waiting_for_other_code=tuple(
            WaitingForCode(**shown_row(row, desk.redaction)) for row in waiting
        ),
        paused=tuple(
            PausedKey(key=key, waiting=count) for key, count in paused.items()
        ),
    )


def queues(desk: Desk) -> tuple[QueueStatus, ...]:
    """Return the queues of the app, and those that hold jobs."""
    counts = desk.queries.counts()
    oldest = desk.queries.oldest_queued()
    alive = living_workers(desk)
    now = desk.now()
    return tuple(
        QueueStatus(
            queue=name,
            limit=desk.queues.get(name),
            states={
                state.value: counts.get(name, {}).get(state, 0) for state in JobState
            },
            at_least=_at_least(counts.get(name, {})),
            oldest_queued_at=oldest.get(name),
            oldest_queued_seconds=_age(oldest.get(name), now),
            workers=sum(worker.serves(name) for worker in alive),
        )
        for name in _names(desk, counts)
    )


def _is_unserved(queue: QueueStatus) -> bool:
    waits = any(queue.states[state] for state in WAITING)
    return not queue.workers and (queue.limit is not None or waits)


def _names(desk: Desk, holding: Iterable[str]) -> list[str]:
    return list(
        dict.fromkeys([*desk.queues, *desk.registry.named_queues(), *sorted(holding)])
    )


def _at_least(counts: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(state for state, count in counts.items() if isinstance(count, AtLeast))


def _count_records(desk: Desk) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Return how many records of each resource are in each state.

    Returns:
        The counts by resource, and why those were not counted that cannot be.
    """
    counts: dict[str, dict[str, int]] = {}
    uncounted: dict[str, str] = {}
    for model in desk.registry.resources.values():
        try:
            counts[model.name] = _count(desk, model)
        except DBAPIError as error:
            if fault_of(error) is not Fault.CODE:
                raise
            uncounted[model.name] = words_of(error)
    return counts, uncounted


def _count(desk: Desk, model: ResourceModel) -> dict[str, int]:
    state = getattr(model.cls, model.attribute)
    with desk.open_session() as session:
        rows = session.execute(count_by(state)).all()
    found = {str(member.value): count for member, count in rows}
    return {
        value: found.get(value, 0)
        for value in dict.fromkeys([*model.spec.states, *found])
    }


def _age(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else max((now - since).total_seconds(), 0.0)

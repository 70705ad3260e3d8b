"""Whether the next tick of a trigger would pick a record, and each reason why not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy import inspect as sa_inspect

from statejobs.declare.trigger import Trigger
from statejobs.errors import WrongValueError
from statejobs.people.desk import Desk
from statejobs.record.identity import encode_identity
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.store.ago import ago_at
from statejobs.store.pages import Candidacy, find_holders, read_candidacy
from statejobs.store.records import Identity
from statejobs.store.schedules import find_schedules
from statejobs.values.job import GAVE_UP, LIVE, Job, JobOutcome
from statejobs.values.kinds import check_kind
from statejobs.values.shown import shown_job
from statejobs.work.schedules.picking import picking_of

_WHERE = "would_schedule()"
_EXAMPLE = "jobs.would_schedule(Order.expire, order)"


@dataclass(frozen=True, kw_only=True)
class WouldSchedule:
    """Whether a tick now would make a job of a record; true where nothing speaks against it."""

    reasons: tuple[str, ...] = ()
    """Why it would not: each."""

    def __bool__(self) -> bool:
        return not self.reasons

    def __str__(self) -> str:
        return "; ".join(self.reasons) or "yes"


def would_schedule(desk: Desk, trigger: Trigger, record: Any) -> WouldSchedule:
    """Return whether a tick of *trigger* now would make a job of *record*, as it is stored.

    Raises:
        WrongValueError: It has no such trigger, that has no schedule, or it is not stored.
    """
    check_kind(f"{_WHERE}: trigger", trigger, Trigger, example=_EXAMPLE)
    model, bound = _bound(trigger, record)
    identity = sa_inspect(record).identity
    if identity is None:
        raise WrongValueError(
            f"{model.label(record)} is not stored yet",
            where=_WHERE,
            why="a tick picks what the database holds",
            fix="commit it first",
        )
    with desk.store.single() as connection:
        return WouldSchedule(
            reasons=(*_reasons(desk, connection, model, bound, tuple(identity)),)
        )


def _bound(trigger: Trigger, record: object) -> tuple[ResourceModel, BoundTrigger]:
    model: ResourceModel | None = getattr(type(record), "__statejobs__", None)
    if isinstance(record, type) or model is None or trigger.spec not in model.by_spec:
        named = record.__name__ if isinstance(record, type) else type(record).__name__
        raise WrongValueError(
            f"what was given is no record that has {trigger!r}, but {named}",
            where=_WHERE,
            fix=f"give the record itself: {_EXAMPLE}",
        )
    bound = model.by_spec[trigger.spec]
    if bound.schedule is None:
        raise WrongValueError(
            f"{trigger!r} has no schedule",
            where=_WHERE,
            why="only requests make its jobs",
            fix="ask for a Trigger.scheduled or a Trigger.hybrid",
        )
    return model, bound


def _reasons(
    desk: Desk,
    connection: Connection,
    model: ResourceModel,
    bound: BoundTrigger,
    identity: Identity,
) -> Iterator[str]:
    now = desk.now()
    picking = picking_of(model, bound, connection.dialect)
    with ago_at(now):
        candidacy = read_candidacy(connection, picking.candidates, identity)
    for row in find_schedules(connection, [bound.key]):
        if row.paused_at is not None:
            yield f"its schedule is paused since {row.paused_at:%Y-%m-%d %H:%M} UTC"
    if candidacy is None:
        yield "it is gone"
        return
    if candidacy.state not in bound.sources:
        waits = " or ".join(repr(source) for source in bound.sources)
        yield (
            f"it is in {candidacy.state!r}, and {bound.action.name!r} starts from {waits}"
        )
    if not candidacy.matches:
        yield "it does not match where="
    keys = bound.dedupe_keys(encode_identity(identity))
    holders = [shown_job(job, desk.redaction) for job in find_holders(connection, keys)]
    yield from _why_held(holders, candidacy, now)


def _why_held(
    holders: Sequence[Job], candidacy: Candidacy, now: datetime
) -> Iterator[str]:
    for job in holders:
        if job.state in LIVE:
            yield f"job {job.id} of it is {job.state}"
        elif job.state in GAVE_UP:
            if not _may_go_on(job, candidacy):
                yield (
                    f"job {job.id} of it is {job.state} ({job.reason}), "
                    "and nothing has moved it since"
                )
        elif job.unique_until is not None and job.unique_until > now:
            yield (
                f"job {job.id} of it has completed, and none may follow before "
                f"{job.unique_until:%Y-%m-%d %H:%M} UTC"
            )


def _may_go_on(job: Job, candidacy: Candidacy) -> bool:
    if job.outcome is JobOutcome.STALE:
        return True
    moved_at, ended_at = candidacy.changed_at, job.finished_at
    return moved_at is not None and ended_at is not None and moved_at > ended_at

"""Records of jobs, in SQL: land one, and find one again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection

from statejobs.record.identity import encode_identity
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.store.following import FollowUp
from statejobs.store.history import HistoryRow, read_last_step
from statejobs.store.landing import Move
from statejobs.store.records import Identity, Place
from statejobs.values.graph import DELETED, EdgeKind
from statejobs.values.job import Job, NewJob
from statejobs.work.records.changes import own_columns
from statejobs.work.records.following import follow_up_of


@dataclass(slots=True, kw_only=True)
class RecordSubject:
    """The record of a claimed job: where it was found, and where the claim left it."""

    model: ResourceModel
    bound: BoundTrigger
    identity: Identity
    source: str
    """State in which the job found it."""
    state: str
    """Where it is since the claim."""
    version: int
    """Its version since the claim."""
    record: Any | None = None
    """The loaded object; None when it is only known by its key."""
    args: dict[str, Any] | None = None
    """The arguments, as the claim decoded them; the first run takes them."""
    target: str | None = None
    """Which of several targets its action has returned."""
    promised: tuple[NewJob, ...] = ()
    """The jobs that its action promises there."""

    def take_args(self, stored: str) -> dict[str, Any]:
        """Return the arguments; a second run gets its own, whatever the first did to them."""
        taken = self.args
        self.args = None
        if taken is not None:
            return taken
        return self.bound.action.signature.decode(stored, self.bound.options.upcast)

    def stands(self, place: Place) -> bool:
        """Return whether its record in *place* is where the action needs it.

        An action without a target runs beside whatever moves the record.
        """
        return not self.bound.targets or place == (self.state, self.version)

    @property
    def kind(self) -> object:
        """Return model and trigger: subclasses may have an action of their own."""
        return id(self.model), id(self.bound)


class Way(NamedTuple):
    """What an edge of an action means for a record that its claim found in one source."""

    target: str
    name: str
    """Of the edge, for history."""
    rests: bool
    """Whether the record then waits in a source of the action."""


@lru_cache(maxsize=4096)
def way_of(
    bound: BoundTrigger, kind: EdgeKind, source: str, chosen: str | None = None
) -> Way:
    """Return the edge of *kind* for a record that was found in *source*.

    Of several targets the action has *chosen* one.
    """
    action = bound.action
    name = action.edge(kind.value)
    match kind:
        case EdgeKind.START:
            target = bound.during or source
        case EdgeKind.COMPLETE:
            target = chosen or bound.targets[0]
            name = action.edge(action.completing(target))
        case EdgeKind.DISCARD:
            target = bound.failed or source
        case _:
            target = source
            if len(bound.sources) > 1:
                name = action.edge(f"return.{source}")
    return Way(target, name, target in bound.sources)


def where_to(subject: RecordSubject, state: str | None) -> str:
    """Return for people where a record went that its job no longer finds where it was left."""
    if state is None:
        return "the record is gone"
    if state == subject.state:
        return f"the record left {state!r} and came back"
    return f"the record was moved to {state!r}"


def came_by_declared_move(
    connection: Connection, subject: RecordSubject, found: Place | None
) -> bool:
    """Return whether a declared move took a record to where it was *found*; None: it is gone.

    Its history says so. Without one nobody can tell, and it is taken for declared.
    """
    model = subject.model
    if not model.has_history:
        return found is not None
    last = read_last_step(connection, model.name, encode_identity(subject.identity))
    if last is None or not any(edge.name == last.name for edge in model.spec.edges):
        return False
    return (
        last.target == DELETED
        if found is None
        else (last.target, last.version) == found
    )


def move_of(
    job: Job,
    subject: RecordSubject,
    kind: EdgeKind,
    now: datetime,
    *,
    attempt: int | None,
    reason: str | None = None,
    duration: float | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Move:
    """Return the move by which an edge of *kind* ends the work of *job* on its record.

    Without an *attempt* a person makes it, by hand. Where the job moved nothing, since its action
    has no `during`, nothing moves back.
    """
    model = subject.model
    bound = subject.bound
    state = subject.state
    way = way_of(bound, kind, subject.source, subject.target)
    leaves = way.target != state
    next_version = subject.version + 1 if leaves else subject.version
    history = None
    if model.has_history and (leaves or kind is EdgeKind.COMPLETE):
        history = HistoryRow(
            resource=model.name,
            record_id=job.record_id or "",
            name=way.name,
            source=state,
            target=way.target,
            version=next_version,
            actor=job.actor,
            tenant=job.tenant,
            job_id=job.id,
            attempt=attempt,
            reason=reason,
            duration=duration,
            at=now,
        )
    columns = own_columns(model) if changes else {}
    is_deleted = way.target == DELETED
    has_more = is_deleted or subject.promised or model.later
    return Move(
        records=model.records,
        identity=subject.identity,
        was=state,
        version=subject.version,
        becomes=way.target,
        next_version=next_version,
        moved_at=now if leaves else None,
        changes={columns[name]: value for name, value in (changes or {}).items()},
        at=now,
        history=history,
        rests=way.rests,
        is_deleted=is_deleted,
        follow_up=_follow_up(job, subject, kind, way.target) if has_more else None,
    )


def _follow_up(
    job: Job, subject: RecordSubject, kind: EdgeKind, target: str
) -> FollowUp | None:
    """Return what follows when an edge of *kind* ends the work of *job*."""
    if kind not in {EdgeKind.COMPLETE, EdgeKind.DISCARD}:
        return None
    return follow_up_of(
        subject.model,
        subject.bound,
        job.record_id or "",
        left={subject.source, subject.state},
        target=target,
        jobs=subject.promised if kind is EdgeKind.COMPLETE else (),
    )


def history_of_claim(job: Job, subject: RecordSubject, now: datetime) -> HistoryRow:
    """Return the row of history of the move by which *job*, not yet counted up, was claimed."""
    way = way_of(subject.bound, EdgeKind.START, subject.source)
    return HistoryRow(
        resource=subject.model.name,
        record_id=job.record_id or "",
        name=way.name,
        source=subject.source,
        target=way.target,
        version=subject.version,
        actor=job.actor,
        tenant=job.tenant,
        job_id=job.id,
        attempt=job.attempt + 1,
        at=now,
    )

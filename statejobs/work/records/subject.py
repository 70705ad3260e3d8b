"""Records of jobs, in SQL: land one, and find one again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from statejobs.record.identity import encode_identity
from statejobs.record.model import ResourceModel
from statejobs.record.specs import BoundTrigger
from statejobs.store.history import HistoryRow
from statejobs.store.landing import Move
from statejobs.store.records import Identity, Place
from statejobs.store.tables import transitions
from statejobs.values.graph import DELETED, EdgeKind
from statejobs.values.job import Job
from statejobs.work.records.changes import own_columns


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

    @property
    def kind(self) -> object:
        """Return model and trigger: subclasses may have an action of their own."""
        return id(self.model), id(self.bound)

    def version_at(self, target: str) -> int:
        """Return its version once it is in *target*: only leaving a state counts."""
        return self.version if target == self.state else self.version + 1

    def resting(self, kind: EdgeKind) -> str:
        """Return where the record rests after an edge of *kind*."""
        match kind:
            case EdgeKind.COMPLETE:
                return self.bound.target
            case EdgeKind.DISCARD:
                return self.bound.failed or self.source
            case _:
                return self.source

    def edge_name(self, kind: EdgeKind) -> str:
        """Return the name of the edge of *kind* that it takes, for history."""
        if kind is EdgeKind.RETURN and len(self.bound.sources) > 1:
            return self.bound.action.edge(f"return.{self.source}")
        return self.bound.action.edge(kind.value)


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
    last = connection.execute(
        select(transitions.c.name, transitions.c.target, transitions.c.version)
        .where(
            transitions.c.resource == model.name,
            transitions.c.record_id == encode_identity(subject.identity),
        )
        .order_by(transitions.c.id.desc())
        .limit(1)
    ).first()
    if last is None or not any(edge.name == last.name for edge in model.spec.edges):
        return False
    return last.target == DELETED if found is None else (last.target, last.version) == found


def move_of(
    job: Job, subject: RecordSubject, kind: EdgeKind, now: datetime, *, attempt: int | None,
    reason: str | None = None, duration: float | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Move:  # fmt: skip
    """Return the move by which an edge of *kind* ends the work of *job* on its record.

    Without an *attempt* a person makes it, by hand. Where the job moved nothing, since its action
    has no `during`, nothing moves back.
    """
    model, target = subject.model, subject.resting(kind)
    is_told = target != subject.state or kind is EdgeKind.COMPLETE
    columns = own_columns(model) if changes else {}
    return Move(
        records=model.records,
        identity=subject.identity,
        was=subject.state,
        version=subject.version,
        becomes=target,
        changes={columns[name]: value for name, value in (changes or {}).items()},
        at=now,
        history=history_row(
            job, subject, kind, target, now, attempt=attempt, reason=reason, duration=duration
        )
        if is_told and model.has_history
        else None,
        rests=target in subject.bound.sources,
        is_deleted=target == DELETED,
        ends=_others_of(subject, job.record_id or "") if target == DELETED else {},
    )


def _others_of(subject: RecordSubject, record_id: str) -> dict[str, str]:
    """Return what names the other jobs of a record that its action deletes, and why they end."""
    why = f"its record was deleted by {subject.bound.action.name}"
    return {
        key: why
        for bound in subject.model.triggers.values()
        if bound.spec is not subject.bound.spec
        for key in bound.dedupe_keys(record_id)
    }


def history_row(
    job: Job, subject: RecordSubject, kind: EdgeKind, target: str, now: datetime, *,
    attempt: int | None, reason: str | None = None, duration: float | None = None,
) -> HistoryRow:  # fmt: skip
    """Return the row of history of one move of a job's record.

    Without an *attempt* a person made it, by hand.
    """
    starts = kind is EdgeKind.START
    return HistoryRow(
        resource=subject.model.name,
        record_id=job.record_id or "",
        name=subject.edge_name(kind),
        source=subject.source if starts else subject.state,
        target=target,
        version=subject.version if starts else subject.version_at(target),
        actor=job.actor,
        tenant=job.tenant,
        job_id=job.id,
        attempt=attempt,
        reason=reason,
        duration=duration,
        at=now,
    )

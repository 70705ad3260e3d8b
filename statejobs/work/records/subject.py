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
from statejobs.store.records import Identity, Place, move_parameters
from statejobs.store.tables import transitions
from statejobs.values.graph import DELETED, EdgeKind
from statejobs.values.job import Job
from statejobs.work.records.changes import move_with_changes


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


def land_record(
    connection: Connection, subject: RecordSubject, target: str, now: datetime,
    changes: Mapping[str, Any] | None = None,
) -> bool:  # fmt: skip
    """Move a claimed record to *target* by compare-and-set; False when someone else moved it.

    *changes* (attribute → value) are columns of its own that are written with the move.
    """
    statement = move_with_changes(subject.model, tuple(changes or ()))
    found = connection.execute(statement, landing_parameters(subject, target, now, changes or {}))
    return found.rowcount == 1


def landing_parameters(
    subject: RecordSubject, target: str, now: datetime, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the parameters of `move_with_changes`."""
    return move_parameters(
        subject.model.records, subject.identity, was=subject.state, version=subject.version,
        becomes=target, next_version=subject.version_at(target),
        moved_at=None if target == subject.state else now, changes=[*changes.values()],
    )  # fmt: skip


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

"""What people ask about a record: where it is, what it could do, and how it came there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from statejobs.errors import UnreadableRecordError
from statejobs.people.desk import Desk
from statejobs.people.history import AttemptEntry, StepEntry, timeline
from statejobs.people.jobs import ShownJob, all_shown
from statejobs.people.machines import ShownPromise
from statejobs.people.obstacles import why_nothing_runs
from statejobs.record.identity import encode_identity
from statejobs.record.model import ResourceModel
from statejobs.store.faults import Fault, fault_of, sqlstate_of
from statejobs.values.failure import first_line
from statejobs.values.shown import shown_job

_OUT_OF_RANGE = "22003"


@dataclass(frozen=True, kw_only=True)
class ShownTransition:
    """A transition that a person could fire."""

    name: str
    target: str
    runs: tuple[ShownPromise, ...]
    """The jobs that it enqueues."""
    available: bool
    why_not: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RecordPage:
    """Everything about one record."""

    resource: str
    record_id: str
    state: str
    state_version: int
    state_changed_at: datetime | None
    is_final: bool
    transitions: tuple[ShownTransition, ...]
    obstacle: str | None
    """Why nothing runs although it waits."""
    jobs: tuple[ShownJob, ...]
    """The newest first."""
    timeline: tuple[AttemptEntry | StepEntry, ...]


def record_page(
    desk: Desk, model: ResourceModel, identity: tuple[Any, ...]
) -> RecordPage | None:
    """Return everything about a record; None when there is none.

    Raises:
        UnreadableRecordError: Its row holds what *model* cannot read.
    """
    with desk.open_session() as session:
        record = _get(session, model, identity)
        return None if record is None else _page(desk, model, record)


def _get(session: Session, model: ResourceModel, identity: tuple[Any, ...]) -> Any:
    try:
        return session.get(model.cls, identity)
    except OverflowError:
        return None  # no key is that large
    except Exception as error:
        if isinstance(error, SQLAlchemyError) and fault_of(error) is not Fault.ROW:
            raise
        if isinstance(error, SQLAlchemyError) and sqlstate_of(error) == _OUT_OF_RANGE:
            return None
        raise UnreadableRecordError(
            f"{model.name} {encode_identity(identity)} cannot be read",
            why=first_line(error),
            fix=f"mend its row in the table {model.table.name}",
        ) from error


def _page(desk: Desk, model: ResourceModel, record: Any) -> RecordPage:
    record_id = encode_identity(model.mapper.primary_key_from_instance(record))
    state = model.kernel.state_of(record)
    found = desk.queries.jobs(resource=model.name, record_id=record_id)
    jobs = [shown_job(job, desk.redaction) for job in found]
    return RecordPage(
        resource=model.name,
        record_id=record_id,
        state=state,
        state_version=record.state_version,
        state_changed_at=record.state_changed_at,
        is_final=state in model.spec.final,
        transitions=_ways(model, record),
        obstacle=why_nothing_runs(model, state, jobs),
        jobs=all_shown(desk, jobs),
        timeline=timeline(desk, model.name, record_id, jobs),
    )


def _ways(model: ResourceModel, record: Any) -> tuple[ShownTransition, ...]:
    ways = []
    for edge in model.spec.transitions:
        reasons = _why_not(model, record, edge.name)
        way = ShownTransition(
            name=edge.name,
            target=edge.target,
            runs=tuple(map(ShownPromise.of, edge.runs)),
            available=not reasons,
            why_not=reasons,
        )
        ways.append(way)
    return tuple(ways)


def _why_not(model: ResourceModel, record: Any, name: str) -> tuple[str, ...]:
    try:
        return tuple(model.kernel.why_not(record, name))
    except Exception as error:  # noqa: BLE001 - a guard of the user's; the others are still of use
        return (f"its guard raised {type(error).__name__}: {error}",)

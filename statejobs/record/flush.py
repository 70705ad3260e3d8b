"""The transition is the enqueue: states, history and jobs are written with the flush.

`before_flush` moves the records by compare-and-set, in the order of locks; the unit of work writes
their other columns; `after_flush` writes history and jobs. All on the caller's connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table, event
from sqlalchemy.orm import Mapper, Session, SessionTransaction, UOWTransaction
from sqlalchemy.orm.attributes import instance_state, set_attribute, set_committed_value

from statejobs.record.beginning import begin_with_a_move, begin_with_creation
from statejobs.record.computed import tell_computed
from statejobs.record.doors import serve_or_refuse
from statejobs.record.enqueue import IDS, WAKE, history_args, history_reason, promised_job
from statejobs.record.flush_locks import lock_in_order
from statejobs.record.key_types import bring_key_to_type, refuse_other_text
from statejobs.record.late import (
    has_moved,
    is_elsewhere,
    keep_key,
    refuse_late_changes,
    refuse_late_steps,
)
from statejobs.record.ledger import (
    Ledger,
    Step,
    clock_of,
    job_of,
    ledger_of,
    pending_steps,
)
from statejobs.record.lives import GONE, awaits_number, begin_lives, end_lives
from statejobs.record.merging import carry_steps
from statejobs.record.model import ResourceModel
from statejobs.record.move import Moved, move_records
from statejobs.record.old_doors import close_old_doors
from statejobs.store.adopt import adopt_jobs
from statejobs.store.binds import connection_for
from statejobs.store.engines.factory import wake_workers
from statejobs.store.enqueue import enqueue
from statejobs.store.history import HistoryRow, write_history
from statejobs.store.leave import cancel_left
from statejobs.store.lock_order import place_of
from statejobs.store.missing import explain_missing_tables
from statejobs.values.clock import random_id
from statejobs.values.graph import DELETED
from statejobs.values.job import NewJob

_PLAN = "statejobs.plan"
_INSERTED = "statejobs.inserted"
_Inserted = dict[Ledger, list[tuple[Step, SessionTransaction | None]]]
"""Steps of records that this transaction inserted, with the savepoint that they were flushed in."""


@dataclass(slots=True)
class Plan:
    """What one flush writes for the records that moved."""

    now: datetime
    job: Mapping[str, int | None]
    """The job whose action has the session, if one has, as history names it."""
    moved: list[Moved] = field(default_factory=list)
    connections: dict[Mapper[Any], Connection] = field(default_factory=dict)
    """Where each mapper's records, history and jobs are written."""

    def connection(self, session: Session, model: ResourceModel) -> Connection:
        """Return the connection for *model*, looked for once; what cannot serve is refused."""
        mapper = model.mapper
        if mapper not in self.connections:
            self.connections[mapper] = connection_for(session, mapper)
        return self.connections[mapper]


def listen_to_sessions() -> None:
    """Listen on every Session, once; the one permitted global. Other objects are ignored."""
    for name, listener in _LISTENERS.items():
        if not event.contains(Session, name, listener):
            event.listen(Session, name, listener)
    close_old_doors()
    carry_steps()


def before_flush(session: Session, _context: UOWTransaction, instances: Any) -> None:
    """Move the records that made steps, before the unit of work writes their other columns."""
    session.info.pop(_PLAN, None)  # of a flush that had nothing to write
    records = _records_that_moved(session, instances)
    if not records:
        return
    plan = Plan(now=clock_of(session.info).now(), job=job_of(session.info))
    existing: dict[Table, list[Moved]] = {}
    for record in records:
        model: ResourceModel = type(record).__statejobs__
        connection = plan.connection(session, model)  # before anything is written
        moved = _plan_move(record, plan.now)
        plan.moved.append(moved)
        if moved.is_new:
            bring_key_to_type(model, record, connection.dialect)
            _set_first_version(moved)
        else:
            existing.setdefault(moved.model.table, []).append(moved)
    lock_in_order(session, [moved for group in existing.values() for moved in group])
    for table in sorted(existing, key=place_of):
        connection = plan.connection(session, existing[table][0].model)
        tell_computed(connection, *move_records(connection, existing[table]))
    session.info[_PLAN] = plan


def _records_that_moved(session: Session, instances: Any) -> list[Any]:
    """Return the records that made steps; of those stored, only what is among *instances*.

    Which new records the unit of work will write, it alone knows: the plan drops the others later.
    """
    found = [record for record in session.new if hasattr(type(record), "__statejobs__")]
    for record in found:
        begin_with_creation(record)
    chosen = set(map(id, instances or ()))
    for record in session.dirty:
        is_flushed = not chosen or id(record) in chosen
        if is_flushed and hasattr(type(record), "__statejobs__"):
            begin_with_a_move(record)
            keep_key(session, record)
            if pending_steps(record):
                found.append(record)
    leaving = (record for record in session.deleted if not chosen or id(record) in chosen)
    return [*found, *(r for r in leaving if has_moved(r) and _deletes_itself(r))]


def _deletes_itself(record: object) -> bool:
    return pending_steps(record)[-1].target == DELETED


def _plan_move(record: Any, now: datetime) -> Moved:
    ledger, model = ledger_of(record), type(record).__statejobs__
    is_new = instance_state(record).key is None
    later = now
    for step in reversed(ledger.pending):  # one before the record had a session has no time yet
        step.at = later = step.at or later
    return Moved(
        model=model,
        record=record,
        steps=tuple(ledger.pending),
        version=None if is_new else record.state_version,
        awaits_number=is_new and awaits_number(model, record),
    )


def _set_first_version(moved: Moved) -> None:
    """A new record is inserted in the state, and with the count, that it reached in memory."""
    with ledger_of(moved.record).writing():
        # Not setattr: a base may refuse attributes that are no fields of its own.
        set_attribute(moved.record, "state_version", moved.last_version)
        set_attribute(moved.record, "state_changed_at", moved.left_at)


def _after_flush(session: Session, context: UOWTransaction) -> None:
    plan: Plan | None = session.info.pop(_PLAN, None)
    if GONE in session.info:
        end_lives(session, plan.now if plan else clock_of(session.info).now())
    stepped = {id(moved.record) for moved in plan.moved} if plan is not None else set()
    if plan is not None:
        plan.moved = [moved for moved in plan.moved if _is_written(moved, context)]
        _write_plan(session, plan)
    refuse_late_changes(session, context, stepped)


def _is_written(moved: Moved, context: UOWTransaction) -> bool:
    """Whether the record has a row now: not one left for later, nor an orphan that was let go."""
    state = instance_state(moved.record)
    if state not in context.states:
        return not moved.is_new
    is_deleted, _ = context.states[state]
    return moved.is_deleted or not is_deleted


def _write_plan(session: Session, plan: Plan) -> None:
    by_connection: dict[Connection, list[Moved]] = {}
    for moved in plan.moved:
        connection = plan.connection(session, moved.model)
        if moved.is_new:
            refuse_other_text(moved.model, moved.record, connection.dialect)
        by_connection.setdefault(connection, []).append(moved)
    ids = session.info.get(IDS, random_id)
    for connection, group in by_connection.items():
        if _write(connection, group, plan, ids):
            session.info.setdefault(WAKE, set()).add(connection.engine)
    for moved in plan.moved:
        _close(session, moved)


def _write(connection: Connection, group: Sequence[Moved], plan: Plan, ids: Any) -> bool:
    """Write history and jobs; return whether there may be work for a worker."""
    with explain_missing_tables(connection):
        _write_rows(connection, group, plan)
        return _enqueue_promised(connection, group, plan.now, ids)


def _write_rows(connection: Connection, group: Sequence[Moved], plan: Plan) -> None:
    now, logged = plan.now, [moved for moved in group if moved.model.has_history]
    history = [row for moved in logged for row in history_rows(moved, plan.job)]
    if history:
        write_history(connection, history)
    left: dict[str, str] = {}
    abandoned: dict[str, str] = {}
    for moved in group:
        left.update(_left(moved))
        abandoned.update(_abandoned(moved))
    if left:
        cancel_left(connection, left, running=False, now=now)
    if abandoned:
        cancel_left(connection, abandoned, running=True, now=now)
    new = [moved for moved in group if moved.is_new]
    if new:
        begin_lives(connection, new, now)


def _enqueue_promised(
    connection: Connection, group: Sequence[Moved], now: datetime, ids: Any
) -> bool:
    former: dict[str, str] = {}
    for moved in group:
        if moved.model.has_aliases and not moved.is_new:
            former.update(_former_keys(moved))
    if former:
        adopt_jobs(connection, former)
    jobs = {job.dedupe_key: job for moved in group for job in _promised_jobs(moved, now, ids)}
    if jobs:
        enqueue(connection, list(jobs.values()))
    return bool(jobs)


def history_rows(moved: Moved, job: Mapping[str, int | None]) -> Iterator[HistoryRow]:
    """Return a row for each step of a record, which the action of *job* made, if one did."""
    record_id = moved.record_id
    for version, step in zip(moved.versions, moved.steps, strict=True):
        assert step.at is not None  # noqa: S101 - the plan of a flush gives each its time
        yield HistoryRow(
            resource=moved.model.name,
            record_id=record_id,
            name=step.name,
            source=step.source,
            target=step.target,
            version=version,
            actor=step.acting.actor,
            tenant=step.acting.tenant,
            args=history_args(moved.model, step),
            reason=history_reason(moved.model, step),
            duration=step.duration,
            at=step.at,
            **job,
        )


def _promised_jobs(moved: Moved, now: datetime, ids: Any) -> Iterator[NewJob]:
    """Jobs that the steps enqueue; those whose record rests no longer in a source are dropped."""
    for step in moved.steps:
        if step.trigger is None:
            continue
        bound = moved.model.triggers[step.trigger]
        if moved.state in bound.sources:
            yield promised_job(
                moved.model, bound, moved.record, moved.record_id, step, now=now, ids=ids
            )


def _former_keys(moved: Moved) -> Iterator[tuple[str, str]]:
    """Dedupe keys under which jobs that the steps enqueue may wait already, with those of today."""
    triggers = {step.trigger for step in moved.steps if step.trigger is not None}
    for key in triggers:
        yield from moved.model.triggers[key].former_keys(moved.record_id).items()


def _left(moved: Moved) -> Iterator[tuple[str, str]]:
    """Waiting jobs whose record has left their sources, with the transition's name."""
    if moved.is_new:
        return
    for bound in moved.model.triggers.values():
        leaving = [s for s in moved.steps if s.source in bound.sources]
        if leaving and moved.state not in bound.sources:
            for key in bound.dedupe_keys(moved.record_id):
                yield key, f"left by {leaving[-1].name}"


def _abandoned(moved: Moved) -> Iterator[tuple[str, str]]:
    """Running jobs whose record was moved away under them."""
    if moved.is_new:
        return
    away = [step for step in moved.steps if step.leaves]
    for bound in moved.model.triggers.values():
        leaving = [step for step in away if bound.during and step.source == bound.during]
        if leaving:
            for key in bound.dedupe_keys(moved.record_id):
                yield key, f"left by {leaving[-1].name}"


def _close(session: Session, moved: Moved) -> None:
    model = moved.model
    found = moved.record.__dict__.get(model.attribute)  # a base may load at any other touch
    if found is not None and found is not model.members.get(moved.steps[-1].target, found):
        raise is_elsewhere(moved, found)
    ledger = ledger_of(moved.record)
    del ledger.pending[: len(moved.steps)]
    inserted: _Inserted = session.info.setdefault(_INSERTED, {})
    if moved.is_new or ledger in inserted:
        within = session.get_nested_transaction()
        inserted.setdefault(ledger, []).extend((step, within) for step in moved.steps)


def _restage(session: Session, record: Any) -> None:
    """A rollback made a record transient: its steps wait for its next flush."""
    if not hasattr(type(record), "__statejobs__"):
        return
    ledger = ledger_of(record)
    inserted: _Inserted = session.info.get(_INSERTED, {})
    ledger.pending[:0] = [step for step, _ in inserted.pop(ledger, [])]
    if ledger.pending:
        model: ResourceModel = type(record).__statejobs__
        # An earlier rollback may have expired its state.
        set_committed_value(record, model.attribute, model.members[ledger.pending[-1].target])


def _after_commit(session: Session) -> None:
    if session.in_nested_transaction():
        return  # the release of a savepoint commits nothing
    session.info.pop(_INSERTED, None)
    engines: set[Engine] = session.info.pop(WAKE, set())
    for engine in engines:
        wake_workers(engine)


def _after_rollback(session: Session, ended: SessionTransaction) -> None:
    """Forget the steps that were flushed inside *ended*."""
    session.info.pop(_PLAN, None)
    session.info.pop(GONE, None)
    inserted: _Inserted = session.info.get(_INSERTED, {})
    for ledger, steps in inserted.items():
        inserted[ledger] = [(step, within) for step, within in steps if not _is_in(within, ended)]


def _is_in(inner: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while inner is not None and inner is not outer:
        inner = inner.parent
    return inner is outer


_LISTENERS: dict[str, Callable[..., Any]] = {
    "before_flush": before_flush,
    "after_flush": _after_flush,
    "after_flush_postexec": refuse_late_steps,
    "persistent_to_transient": _restage,
    "after_commit": _after_commit,
    "after_soft_rollback": _after_rollback,
    "do_orm_execute": serve_or_refuse,
}

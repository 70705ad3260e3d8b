"""The transition is the enqueue: states, history and jobs are written with the flush.

`before_flush` moves the records by compare-and-set, in the order of locks; the unit of work writes
their other columns; `after_flush` writes history and jobs. All on the caller's connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper, Session, SessionTransaction, UOWTransaction
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from statejobs.record.beginning import begin_with_a_move, begin_with_creation
from statejobs.record.computed import computed_columns, tell_computed
from statejobs.record.flush_locks import lock_in_order
from statejobs.record.identity import encode_identity
from statejobs.record.inserting import after_insert, before_insert
from statejobs.record.late import (
    is_elsewhere,
    keep_key,
    moved_too_late,
    refuse_late_changes,
)
from statejobs.record.ledger import (
    WAKE,
    clock_of,
    has_moved,
    job_of,
    ledger_of,
    pending_steps,
)
from statejobs.record.lives import GONE, awaits_number, end_lives
from statejobs.record.model import ResourceModel
from statejobs.record.move import Moved, Plan, refuse_conflict, why_not_moved
from statejobs.record.restaging import INSERTED, forget_steps, keep_steps
from statejobs.record.written import write_beside
from statejobs.store.binds import connection_for
from statejobs.store.engines.factory import wake_workers
from statejobs.store.lock_order import key_order, place_of
from statejobs.store.missing import refuse_missing_table
from statejobs.store.records import RecordMove, move_records
from statejobs.values.graph import DELETED

_PLAN = "statejobs.plan"


def before_flush(session: Session, _context: UOWTransaction, instances: Any) -> None:
    """Move the records that made steps, before the unit of work writes their other columns."""
    info = session.info
    info.pop(_PLAN, None)  # of a flush that had nothing to write
    records = _records_that_moved(session, instances)
    if not records:
        return
    plan = Plan(now=clock_of(info).now(), job=job_of(info))
    connections: dict[Mapper[Any], Connection] = {}
    existing: dict[Table, list[Moved]] = {}
    for record in records:
        model: ResourceModel = type(record).__statejobs__
        mapper = model.mapper
        if mapper not in connections:
            # before anything is written: what cannot serve is refused
            connections[mapper] = connection_for(session, mapper)
        moved = _plan_move(record, connections[mapper], plan.now)
        plan.moved.append(moved)
        if moved.is_new:
            before_insert(moved)
        else:
            existing.setdefault(model.table, []).append(moved)
    _move(session, existing)
    info[_PLAN] = plan


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
        if (
            is_flushed
            and hasattr(type(record), "__statejobs__")
            and _has_steps(session, record)
        ):
            found.append(record)
    for record in session.deleted:
        is_flushed = not chosen or id(record) in chosen
        if (
            is_flushed
            and has_moved(record)
            and pending_steps(record)[-1].target == DELETED
        ):
            found.append(record)
    return found


def _has_steps(session: Session, record: Any) -> bool:
    """Return whether a stored record has moved; another state, or key, is refused."""
    steps = pending_steps(record)
    if not steps or steps[0].source is None:
        begin_with_a_move(record)
    model: ResourceModel = type(record).__statejobs__
    if not model.key_names.isdisjoint(instance_state(record).committed_state):
        keep_key(session, record)
    return bool(steps)


def _plan_move(record: Any, connection: Connection, now: datetime) -> Moved:
    ledger = ledger_of(record)
    model = type(record).__statejobs__
    is_new = instance_state(record).key is None
    later = now
    for step in reversed(ledger.pending):
        # one before the record had a session has no time yet
        step.at = later = step.at or later
    steps = tuple(ledger.pending)
    last = steps[-1]
    left_at = [step.at for step in steps if step.source != step.target]
    version = -1 if is_new else record.state_version
    _, *versions = accumulate((s.source != s.target for s in steps), initial=version)
    identity = () if is_new else tuple(model.mapper.primary_key_from_instance(record))
    move = RecordMove(
        identity=identity,
        was=steps[0].source,
        version=version,
        becomes=last.target if last.target != DELETED else last.source or "",
        next_version=versions[-1],
        moved_at=left_at[-1] if left_at else None,
    )
    return Moved(
        model=model,
        record=record,
        ledger=ledger,
        connection=connection,
        steps=steps,
        versions=tuple(versions),
        move=move,
        record_id="" if is_new else _text_of(identity),
        is_new=is_new,
        awaits_number=is_new and awaits_number(model, record),
        state=last.target,
    )


def _move(session: Session, existing: Mapping[Table, Sequence[Moved]]) -> None:
    """Move stored records, and tell the ORM that their state is in the database.

    Raises:
        StaleTransitionError: Another transaction moved one of them first.
        RecordKeptError: A trigger of the database left out the move, without an error.
    """
    moved = [one for group in existing.values() for one in group]
    if moved and len(session.dirty) + len(session.deleted) > len(moved):
        lock_in_order(session, moved)
    for table in sorted(existing, key=place_of):
        _move_within(existing[table])


def _move_within(moved: Sequence[Moved]) -> None:
    """Move records of one table."""
    model = moved[0].model
    connection = moved[0].connection
    if len(moved) > 1:
        order = key_order(model.mapper.primary_key)
        moved = sorted(moved, key=lambda m: order(m.move.identity))
    try:
        found = move_records(connection, model.records, [m.move for m in moved])
    except DBAPIError as error:
        refuse_conflict(error, moved[0])
        raise
    if found.rowcount != len(moved):
        raise why_not_moved(moved)
    for m in moved:
        set_committed_value(
            m.record, m.model.attribute, m.model.members[m.move.becomes]
        )
        set_committed_value(m.record, "state_version", m.move.next_version)
        if m.move.moved_at is not None:
            set_committed_value(m.record, "state_changed_at", m.move.moved_at)
    if any(computed_columns(m.model) for m in moved):
        tell_computed(connection, moved, found)


def _text_of(identity: tuple[Any, ...]) -> str:
    """Return a key as text; a whole number alone, the usual one, is its own."""
    (first, *others) = identity
    return (
        str(first) if type(first) is int and not others else encode_identity(identity)
    )


def after_flush(session: Session, context: UOWTransaction) -> None:
    """Write history and jobs of the records that moved; refuse what was changed past them."""
    plan: Plan | None = session.info.pop(_PLAN, None)
    if GONE in session.info:
        end_lives(session, plan.now if plan else clock_of(session.info).now())
    stepped = {id(moved.record) for moved in plan.moved} if plan is not None else set()
    if plan is not None:
        plan.moved = [moved for moved in plan.moved if _is_written(moved, context)]
        _write_plan(session, plan)
    changed = [
        state
        for state, (is_deleted, is_only_read) in context.states.items()
        if state.committed_state and not (is_deleted or is_only_read)
    ]
    if changed:
        refuse_late_changes(session, changed, stepped)


def _is_written(moved: Moved, context: UOWTransaction) -> bool:
    """Whether the record has a row now: not one left for later, nor an orphan that was let go."""
    state = instance_state(moved.record)
    if state not in context.states:
        return not moved.is_new
    is_deleted, _ = context.states[state]
    return moved.state == DELETED or not is_deleted


def _write_plan(session: Session, plan: Plan) -> None:
    by_connection: dict[Connection, list[Moved]] = {}
    for moved in plan.moved:
        if moved.is_new:
            after_insert(moved)
        by_connection.setdefault(moved.connection, []).append(moved)
    for connection, group in by_connection.items():
        try:
            write_beside(session, connection, group, plan)
        except DBAPIError as error:
            refuse_missing_table(connection, error)
            raise
    for moved in plan.moved:
        _close(session, moved)


def _close(session: Session, moved: Moved) -> None:
    model = moved.model
    ledger = moved.ledger
    # a base may load at any other touch
    found = moved.record.__dict__.get(model.attribute)
    if found is not None and found is not model.members.get(
        moved.steps[-1].target, found
    ):
        raise is_elsewhere(moved, found)
    del ledger.pending[: len(moved.steps)]
    if moved.is_new or ledger in session.info.get(INSERTED, ()):
        keep_steps(session, moved)


def after_flush_postexec(_session: Session, context: UOWTransaction) -> None:
    """Refuse steps that came too late to be written."""
    for state, (is_deleted, is_only_read) in context.states.items():
        record = None if is_deleted or is_only_read or state.modified else state.obj()
        if record is not None and has_moved(record):
            raise moved_too_late(record)


def after_commit(session: Session) -> None:
    """Wake workers for what was enqueued."""
    if session.in_nested_transaction():
        return  # the release of a savepoint commits nothing
    session.info.pop(INSERTED, None)
    engines: set[Engine] = session.info.pop(WAKE, set())
    for engine in engines:
        wake_workers(engine)


def after_rollback(session: Session, ended: SessionTransaction) -> None:
    """Forget what was planned and flushed inside *ended*."""
    session.info.pop(_PLAN, None)
    session.info.pop(GONE, None)
    forget_steps(session, ended)

"""Fires a timeout on the records of a stretch that are due, with SQL alone."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import ColumnExpressionArgument
from sqlalchemy.orm import Session

from statejobs.machine.guard import Guard
from statejobs.record.bulk.checks import guards_in_sql
from statejobs.record.bulk.fire import check_call, move_checked
from statejobs.record.timeouts import StateTimeout
from statejobs.record.written import wake_after_commit
from statejobs.store.binds import connection_for
from statejobs.store.timeouts import DueRange, Milestone


def move_due(
    session: Session, timeout: StateTimeout, stretch: DueRange, *, upto: Milestone
) -> int:
    """Fire *timeout* on the records of *stretch* up to a milestone, but those that others hold.

    Returns:
        How many moved.

    Raises:
        BulkError: SQL alone cannot do what the transition declares.
    """
    where = stretch.condition(upto=upto)
    cls = timeout.model.cls
    whole = check_call(
        session, cls, timeout.declared, where=where, values=None, args=None, limit=None
    )
    move = whole.leaving(stretch.source)
    connection = connection_for(session, move.model.mapper)
    result = move_checked(session, connection, move, waits=False)
    if move.step.promises and result.moved:
        wake_after_commit(session, connection)
    return result.moved


def asked_in_sql(timeout: StateTimeout) -> list[ColumnExpressionArgument[bool]]:
    """Return what those guards of *timeout* ask that have a form in SQL."""
    declared = timeout.declared
    known = tuple(one for one in declared.guards if Guard.of(one).sql is not None)
    conditions = guards_in_sql(timeout.model.cls, replace(declared, guards=known))
    return [condition for _, condition in conditions]

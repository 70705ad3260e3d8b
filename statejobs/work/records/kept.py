"""What it means that a move changed no row: someone was first, or the database keeps the record.

A trigger of the database may swallow an UPDATE without an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from statejobs.errors import RecordKeptError
from statejobs.runner.port import MovedAway, RecordHidden
from statejobs.work.records.changes import own_columns
from statejobs.work.records.hidden import moved_or_hidden
from statejobs.work.records.subject import RecordSubject, key_is_in, read_place, stored_state


def is_written_already(
    connection: Connection, subject: RecordSubject, target: str, changes: Mapping[str, Any]
) -> bool:
    """Lock the record; return whether its move to *target* has nothing to change.

    A database may leave out such an UPDATE (`suppress_redundant_updates_trigger`), and then
    nothing is lost.
    """
    if target != subject.state:
        return False
    model = subject.model
    columns = [own_columns(model)[name] for name in changes]
    row = connection.execute(
        select(stored_state(model), model.table.c.state_version, *columns)
        .where(key_is_in(model, [subject.identity], connection.dialect.name))
        .with_for_update(key_share=True)
    ).first()
    if row is None or tuple(row[:2]) != (subject.state, subject.version):
        return False
    pairs = zip(columns, row[2:], changes.values(), strict=True)
    return all(column.type.compare_values(now, new) is True for column, now, new in pairs)


def why_not_moved(
    connection: Connection, subject: RecordSubject
) -> MovedAway | RecordHidden | RecordKeptError:
    """Return why an UPDATE did not move the record of *subject*."""
    why = moved_or_hidden(connection, subject)
    if isinstance(why, RecordHidden):
        return why
    place = read_place(connection, subject.model, subject.identity)
    return RecordKeptError() if place == (subject.state, subject.version) else why

"""What it means that a move changed no row: someone was first, or the database keeps the record.

A trigger of the database may swallow an UPDATE without an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from statejobs.errors import RecordKeptError
from statejobs.runner.port import MovedAway, RecordHidden
from statejobs.store.records import is_place_of, read_place
from statejobs.work.records.changes import own_columns
from statejobs.work.records.hidden import moved_or_hidden
from statejobs.work.records.subject import RecordSubject


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
    values = {own_columns(model)[name]: value for name, value in changes.items()}
    place = (subject.state, subject.version)
    return is_place_of(connection, model.records, subject.identity, place, values)


def why_not_moved(
    connection: Connection, subject: RecordSubject
) -> MovedAway | RecordHidden | RecordKeptError:
    """Return why an UPDATE did not move the record of *subject*."""
    why = moved_or_hidden(connection, subject)
    if isinstance(why, RecordHidden):
        return why
    place = read_place(connection, subject.model.records, subject.identity)
    return RecordKeptError() if place == (subject.state, subject.version) else why

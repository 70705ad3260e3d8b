"""Says why a record is not found: it went elsewhere, or the database hides it from this role."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from statejobs.errors import RecordHiddenError
from statejobs.record.model import ResourceModel
from statejobs.store.faults import Fault, fault_of
from statejobs.store.record_rows import lock_at_once
from statejobs.store.records import Identity, read_place
from statejobs.store.row_security import policies_of
from statejobs.values.failure import describe_failure
from statejobs.values.outcome import GiveBack, Superseded
from statejobs.work.records.subject import RecordSubject, where_to


def why_hidden(
    connection: Connection, model: ResourceModel
) -> RecordHiddenError | None:
    """Return what may hide records of *model* from this role; None when nothing does."""
    found = policies_of(connection, model.table)
    return None if found is None else RecordHiddenError(*found)


def find_unlockable(
    connection: Connection, model: ResourceModel, identities: Collection[Identity]
) -> set[Identity]:
    """Return which records cannot be locked though nobody holds them; they are there to be read.

    When somebody holds one of them, that cannot be told, and none is returned.
    """
    try:
        with connection.begin_nested():
            free = lock_at_once(connection, model.records, list(identities))
    except DBAPIError as error:
        if fault_of(error) is Fault.LOCKED:
            return set()
        raise
    return {*identities} - free


def moved_or_hidden(
    connection: Connection, subject: RecordSubject
) -> Superseded | GiveBack:
    """Return how an attempt ends whose record is not where its claim left it."""
    place = read_place(connection, subject.model.records, subject.identity)
    if place is None or place == (subject.state, subject.version):
        reason = why_hidden(connection, subject.model)
        if reason is not None:
            return GiveBack(failure=describe_failure(reason), error=reason)
    return Superseded(where_to(subject, place and place[0]))

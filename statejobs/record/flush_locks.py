"""One order for a flush that moves some records and edits others.

The moves come before the unit of work. What it only edits, and what stands before them in the order
of locks, would be locked after them: another transaction that edits both would wait for us, and we
for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_state

from statejobs.record.move import Moved, refuse_conflict
from statejobs.store.lock_order import key_order, place_of
from statejobs.store.record_rows import lock_rows


def lock_in_order(session: Session, moved: Sequence[Moved]) -> None:
    """Lock whatever the flush writes, when what it only edits comes before one of *moved*.

    Raises:
        StaleTransitionError: Another transaction is in the way, and the database ended ours.
    """
    edited = list(_edited(session, {id(m.record) for m in moved}))
    if not edited:
        return
    places = {
        id(record): _place(record) for record in (*edited, *(m.record for m in moved))
    }
    last = max(places[id(m.record)] for m in moved)
    if all(places[id(record)] > last for record in edited):
        return
    tables: dict[Table, list[Any]] = {}
    for record in sorted(
        (*edited, *(m.record for m in moved)), key=lambda r: places[id(r)]
    ):
        tables.setdefault(_table_of(record), []).append(record)
    try:
        for records in tables.values():
            _lock(session, records)
    except DBAPIError as error:
        refuse_conflict(error, moved[0])
        raise


def _edited(session: Session, moving: set[int]) -> Iterator[Any]:
    """Return the stored objects that the unit of work updates or deletes, but those *moving*."""
    gone = session.deleted
    for record in (*session.dirty, *gone):
        if id(record) in moving or not isinstance(_base_of(record).local_table, Table):
            continue
        if record in gone or session.is_modified(record, include_collections=False):
            yield record


def _lock(session: Session, records: Sequence[Any]) -> None:
    """Lock *records*, all of one table."""
    base = _base_of(records[0])
    connection = session.connection(bind_arguments={"mapper": base})
    if connection.dialect.name != "postgresql":
        return  # one writer at a time
    columns: Any = base.primary_key
    keys = [_identity(record) for record in records]
    lock_rows(connection, base.local_table, columns, keys)


def _place(record: Any) -> tuple[Any, ...]:
    return (
        *place_of(_table_of(record)),
        key_order(_columns(record))(_identity(record)),
    )


def _identity(record: Any) -> tuple[Any, ...]:
    key: Any = instance_state(record).key
    return tuple(key[1])


def _columns(record: Any) -> Any:
    return _base_of(record).primary_key


def _table_of(record: Any) -> Any:
    return _base_of(record).local_table


def _base_of(record: Any) -> Mapper[Any]:
    return instance_state(record).mapper.base_mapper

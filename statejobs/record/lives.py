"""A record lives from its insertion to its deletion, and no job of one life goes on in another."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, Connection, Identity
from sqlalchemy.orm import Session, object_session
from sqlalchemy.orm.attributes import instance_state

from statejobs.record.identity import encode_identity
from statejobs.record.ledger import ledger_of
from statejobs.record.model import ResourceModel, models_within
from statejobs.record.move import Moved
from statejobs.store.binds import connection_for
from statejobs.store.lives import end_with_record, part_from_keys
from statejobs.store.missing import explain_missing_tables

GONE = "statejobs.gone"
"""Key in `session.info` of the records that a flush is deleting."""


def awaits_number(model: ResourceModel, record: object) -> bool:
    """Return whether the database will count up a part of the key of a new record, as it is now."""
    values = vars(record)
    return any(values.get(name) is None for name in _counted(model).values())


def draws_keys(model: ResourceModel, names: Container[str]) -> bool:
    """Return whether it counts up keys for a statement that sets the attributes or columns *names*.

    Any other key may be that of an earlier record: a slug, `max(id) + 1`, what a default, an event
    or a parent gives.
    """
    return any(
        column not in names and attribute not in names
        for column, attribute in _counted(model).items()
    )


def _is_drawn(moved: Moved) -> bool:
    """Whether the database has counted up the key of a new record, in the flush that ends now."""
    given = instance_state(
        moved.record
    ).committed_state  # by an event, after the plan was made
    return moved.awaits_number and not any(
        name in given for name in _counted(moved.model).values()
    )


@lru_cache(maxsize=1024)
def _counted(model: ResourceModel) -> Mapping[str, str]:
    """Return the column of the key that the database counts up, if one is, with its attribute."""
    mapper = model.mapper
    return {
        column.key: mapper.get_property_by_column(column).key
        for column in mapper.primary_key
        if isinstance(column, Column) and _is_counted(column)
    }


def _is_counted(column: Column[Any]) -> bool:
    has_sequence = column.default is None or column.default.is_sequence
    has_identity = column.server_default is None or isinstance(
        column.server_default, Identity
    )
    is_counted = (
        column.table.autoincrement_column is column or column.default is not None
    )
    return is_counted and has_sequence and has_identity


def reuses_keys(connection: Connection) -> bool:
    """Return whether the database gives a new row the id of the last one that was deleted."""
    return connection.dialect.name == "sqlite"


def begin_lives(connection: Connection, moved: Iterable[Moved], now: datetime) -> None:
    """End what earlier records left under the keys of *moved*, which are new."""
    reuses = reuses_keys(connection)
    keys = [
        key
        for one in moved
        if reuses or not _is_drawn(one)
        for key in _dedupe_keys(one.model, one.record_id)
    ]
    if keys:
        part_from_keys(connection, keys, now)


def begin_lives_of_all(
    connection: Connection,
    model: ResourceModel,
    record_ids: Iterable[str],
    now: datetime,
) -> None:
    """End what earlier records of *model* left under the keys of new ones."""
    keys = [key for record_id in record_ids for key in _dedupe_keys(model, record_id)]
    if keys:
        part_from_keys(connection, keys, now)


def note_end(_mapper: Any, _connection: Any, record: Any) -> None:
    """Remember a record that the unit of work deletes; its own action ends its jobs itself."""
    session = object_session(record)
    if session is not None and not ledger_of(record).running:
        session.info.setdefault(GONE, []).append(record)


def end_lives(session: Session, now: datetime) -> None:
    """End the jobs of the records that a flush has deleted."""
    by_connection: dict[Connection, list[str]] = {}
    for record in session.info.pop(GONE, ()):
        model: ResourceModel = type(record).__statejobs__
        connection = connection_for(session, model.mapper)
        key: Any = instance_state(record).key
        own = _dedupe_keys(model, encode_identity(key[1]))
        by_connection.setdefault(connection, []).extend(own)
    for connection, keys in by_connection.items():
        if keys:
            with explain_missing_tables(connection):
                end_with_record(connection, keys, now)


def _dedupe_keys(model: ResourceModel, record_id: str) -> Iterator[str]:
    return (f"{prefix}{record_id}" for prefix in _prefixes(model))


@lru_cache(maxsize=1024)
def _prefixes(model: ResourceModel) -> tuple[str, ...]:
    """Return how the dedupe keys of jobs begin of whatever class the record may have been."""
    root: ResourceModel = getattr(
        model.mapper.base_mapper.class_, "__statejobs__", model
    )
    bound = [
        bound for within in models_within(root) for bound in within.triggers.values()
    ]
    return tuple(
        dict.fromkeys(p for one in bound for p in (one.prefix, *one.former_prefixes))
    )

"""A record lives from its insertion to its deletion, and no job of one life goes on in another."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session, object_session
from sqlalchemy.orm.attributes import instance_state

from statejobs.resource.binds import connection_for
from statejobs.resource.bulk_checks import models_within
from statejobs.resource.identity import encode_identity
from statejobs.resource.ledger import ledger_of
from statejobs.resource.model import ResourceModel
from statejobs.resource.move import Moved
from statejobs.store.lives import end_with_record, part_from_keys
from statejobs.store.missing import explain_missing_tables

GONE = "statejobs.gone"
"""Key in `session.info` of the records that a flush is deleting."""


def has_given_key(model: ResourceModel, record: object) -> bool:
    """Return whether the key of a new record is somebody's choice: one that may be chosen again.

    What the database counts up, or a default makes, is taken for new; what comes from a parent is
    as old as that may be.
    """
    identity = model.mapper.primary_key_from_instance(record)
    return all(
        value is not None or column.foreign_keys
        for column, value in zip(model.mapper.primary_key, identity, strict=True)
    )


def names_its_key(model: ResourceModel, names: Container[str]) -> bool:
    """Return the same of the rows of a statement that sets the attributes or columns *names*."""
    return all(
        column.key in names
        or model.mapper.get_property_by_column(column).key in names
        or column.foreign_keys
        for column in model.mapper.primary_key
    )


def reuses_keys(connection: Connection) -> bool:
    """Return whether the database gives a new row the id of the last one that was deleted."""
    return connection.dialect.name == "sqlite"


def begin_lives(connection: Connection, moved: Iterable[Moved], now: datetime) -> None:
    """End what earlier records left under the keys of those of *moved* that are new."""
    reuses = reuses_keys(connection)
    keys = [
        key
        for one in moved
        if one.is_new and (reuses or one.has_given_key)
        for key in _dedupe_keys(one.model, one.record_id)
    ]
    if keys:
        part_from_keys(connection, keys, now)


def begin_lives_of_all(
    connection: Connection, model: ResourceModel, record_ids: Iterable[str], now: datetime
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
    return (f"{key}:{record_id}" for key in _trigger_keys(model))


@lru_cache(maxsize=1024)
def _trigger_keys(model: ResourceModel) -> tuple[str, ...]:
    """Return the keys of the triggers of whatever class the record with a key may have been."""
    root: ResourceModel = getattr(model.mapper.base_mapper.class_, "__statejobs__", model)
    bound = [bound for within in models_within(root) for bound in within.triggers.values()]
    return tuple(dict.fromkeys(key for one in bound for key in (one.key, *one.aliases)))

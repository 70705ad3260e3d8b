"""Tells the records that a session holds what a bulk transition did to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import ClauseElement
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from statejobs.resource.identity import encode_identity
from statejobs.store.bulk import MovedRow

if TYPE_CHECKING:
    from statejobs.resource.bulk import BulkMove


def held_records(session: Session, cls: type) -> list[Any]:
    """Return the records of *cls* in the identity map of *session*."""
    return [record for record in session.identity_map.values() if isinstance(record, cls)]


def tell_session(
    session: Session, move: BulkMove, held: Sequence[Any], rows: Sequence[MovedRow]
) -> None:
    """Give the *held* records that moved their new values; expire what only the database knows."""
    if not held or not rows:
        return
    versions = {row.record_id: row.version for row in rows}
    for record in held:
        key: Any = instance_state(record).key
        version = versions.get(encode_identity(key[1]))
        if version is not None:
            _tell(session, move, record, version)


def _tell(session: Session, move: BulkMove, record: Any, version: int) -> None:
    model = move.model
    set_committed_value(record, model.attribute, move.declared.target)
    set_committed_value(record, "state_version", version)
    set_committed_value(record, "state_changed_at", move.at)
    unknown = []
    for column in model.table.columns:
        if column not in model.mapper.columns.values():
            continue
        name = model.mapper.get_property_by_column(column).key
        value = move.values.get(column.name)
        if column.name in move.values and not _is_sql(value):
            set_committed_value(record, name, value)
        elif column.name in move.values or column.onupdate or column.server_onupdate:
            unknown.append(name)
    if unknown:
        session.expire(record, unknown)


def _is_sql(value: object) -> bool:
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")

"""Tells the records that a session holds what a bulk transition did to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from statejobs.record.bulk.call import BulkMove
from statejobs.record.identity import encode_identity
from statejobs.store.bulk import MovedRow
from statejobs.store.bulk_move import is_sql


def held_records(session: Session, cls: type) -> list[Any]:
    """Return the records of *cls* in the identity map of *session*."""
    return [
        record for record in session.identity_map.values() if isinstance(record, cls)
    ]


def tell_session(
    session: Session, move: BulkMove, held: Sequence[Any], rows: Sequence[MovedRow]
) -> None:
    """Give the *held* records that moved their new values; expire what only the database knows."""
    if not held or not rows:
        return
    moved = {row.record_id: row for row in rows}
    known, unknown = _written(move)
    for record in held:
        key: Any = instance_state(record).key
        row = moved.get(encode_identity(key[1]))
        if row is None:
            continue
        set_committed_value(record, "state_version", row.version)
        if row.was != move.step.target:
            set_committed_value(record, "state_changed_at", move.at)
        for name, value in known.items():
            set_committed_value(record, name, value)
        if unknown:
            session.expire(record, unknown)


def _written(move: BulkMove) -> tuple[dict[str, Any], list[str]]:
    """Return the attributes written: those with a known value, and those SQL made."""
    model = move.model
    known = {model.attribute: move.declared.target}
    unknown = []
    for attribute in model.mapper.column_attrs:
        # of the base's table, when a subclass has one more
        column: Any = attribute.columns[-1]
        if column.table is not model.table:
            continue
        if column in move.values and not is_sql(move.values[column]):
            known[attribute.key] = move.values[column]
        elif column in move.values or column.onupdate or column.server_onupdate:
            unknown.append(attribute.key)
    return known, unknown

"""Sees whether an action changed nothing but columns of its own record.

Then no unit of work is needed: the guarded UPDATE that moves the record writes them as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ClauseElement, Column, Table
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from statejobs.record.flush import before_flush
from statejobs.record.model import ResourceModel


def own_changes(
    session: Session, records: Sequence[Any], model: ResourceModel
) -> list[dict[str, Any]] | None:
    """Return the changed columns of each of *records* (attribute → value), if no more is written.

    None when the session has to flush: other objects, relationships, SQL expressions, or hooks of
    the user's that only a flush would call.
    """
    if session.new or session.deleted or not allows_shortcut(model):
        return None
    ours = set(map(id, records))
    if any(id(other) not in ours for other in session.dirty):
        return None
    if [*session.dispatch.before_flush] != [before_flush]:
        return None
    changes = [_changed_columns(record, model) for record in records]
    known = [own for own in changes if own is not None]
    return known if len(known) == len(changes) else None


def _changed_columns(record: Any, model: ResourceModel) -> dict[str, Any] | None:
    """Return the changed columns; None when other attributes have changed, or to SQL."""
    state = instance_state(record)
    columns = own_columns(model)
    # attribute → value in the database, of those that were set
    before = state.committed_state
    if not before.keys() <= columns.keys():
        return None
    values = {
        name: state.dict.get(name)
        for name in sorted(before)
        if not _is_same(columns[name], state.dict.get(name), before[name])
    }
    return (
        None if any(isinstance(v, ClauseElement) for v in values.values()) else values
    )


def _is_same(column: Column[Any], value: object, before: object) -> bool:
    """Return whether a flush would see no change; asking its history takes four times as long."""
    # an SQL expression equals nothing
    return column.type.compare_values(value, before) is True


@lru_cache(maxsize=256)
def allows_shortcut(model: ResourceModel) -> bool:
    """Return whether an UPDATE of the record's own table does all that a flush would do."""
    mapper = model.mapper
    table = model.table
    has_hooks = any((*mapper.dispatch.before_update, *mapper.dispatch.after_update))
    computes = any(
        c.onupdate is not None or c.server_onupdate is not None for c in table.columns
    )
    is_versioned = mapper.version_id_col is not None
    return not (has_hooks or computes or is_versioned) and mapper.local_table is table


@lru_cache(maxsize=256)
def own_columns(model: ResourceModel) -> dict[str, Any]:
    """Return the columns of the record's own table by attribute, but for those of the machine."""
    table: Table = model.table
    ours = {model.attribute, "state_version", "state_changed_at"}
    return {
        attribute.key: attribute.columns[0]
        for attribute in model.mapper.column_attrs
        if attribute.key not in ours
        and len(attribute.columns) == 1
        and getattr(attribute.columns[0], "table", None) is table
        and not attribute.columns[0].primary_key
    }

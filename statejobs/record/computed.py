"""Columns that `onupdate` or the database changes along with the state of a record.

The UPDATE that moves a record is not the unit of work's, which would tell the record of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, Connection, CursorResult
from sqlalchemy.orm import object_session
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from statejobs.record.model import ResourceModel
from statejobs.record.move import Moved
from statejobs.store.record_rows import read_rows

_AT_ONCE = 5_000  # keys of one query


def tell_computed(
    connection: Connection, moved: Sequence[Moved], update: CursorResult[Any]
) -> None:
    """Tell records what *update*, which moved them in this order, has done to other columns.

    What Python computed was sent with it; what the database computed is asked for once.
    """
    model = moved[0].model
    sent = update.last_updated_params()
    for m, values in zip(
        moved, sent if isinstance(sent, list) else [sent], strict=True
    ):
        for name, column in computed_columns(m.model).items():
            if (
                _is_loaded(m.record, name)
                and _is_python(column)
                and column.key in values
            ):
                set_committed_value(m.record, name, values[column.key])
    asked = [m for m in moved if any(_names_to_ask(m))]
    for start in range(0, len(asked), _AT_ONCE):
        _ask(connection, model, asked[start : start + _AT_ONCE])


@lru_cache(maxsize=256)
def computed_columns(model: ResourceModel) -> Mapping[str, Column[Any]]:
    """Return the columns of the table with the state that change by themselves, by attribute."""
    found = {}
    for attribute in model.mapper.column_attrs:
        # of the base's table, when a subclass has one more
        column: Any = attribute.columns[-1]
        is_ours = getattr(column, "table", None) is model.table
        if is_ours and _changes_by_itself(model, column):
            found[attribute.key] = column
    return found


def _changes_by_itself(model: ResourceModel, column: Any) -> bool:
    mapper = model.mapper
    if column is mapper.version_id_col and mapper.version_id_generator is False:
        return True  # the database counts it
    return column.onupdate is not None or column.server_onupdate is not None


def _ask(connection: Connection, model: ResourceModel, moved: Sequence[Moved]) -> None:
    columns = {
        column.key: column
        for m in moved
        for column in computed_columns(m.model).values()
    }
    wanted = [m.move.identity for m in moved]
    rows = read_rows(connection, model.records, wanted, *columns.values())
    for m in moved:
        values = rows.get(m.move.identity)
        if values is None:
            # its key is written in another way than the database returns it
            session = object_session(m.record)
            assert session is not None  # noqa: S101 - it is being flushed
            session.expire(m.record, list(_names_to_ask(m)))
            continue
        by_key = dict(zip(columns, values, strict=True))
        for name in _names_to_ask(m):
            set_committed_value(
                m.record, name, by_key[computed_columns(m.model)[name].key]
            )


def _names_to_ask(moved: Moved) -> Iterator[str]:
    for name, column in computed_columns(moved.model).items():
        if not _is_python(column) and _is_loaded(moved.record, name):
            yield name


def _is_loaded(record: Any, name: str) -> bool:
    """Return whether a record shows a value of its own; one that was assigned is still written."""
    state = instance_state(record)
    return name in state.dict and name not in state.committed_state


def _is_python(column: Column[Any]) -> bool:
    return column.onupdate is not None and not column.onupdate.is_clause_element

"""The statements that find and move the records of a bulk transition."""

from __future__ import annotations

import enum
from typing import Any

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Connection,
    Dialect,
    Select,
    String,
    Text,
    and_,
    bindparam,
    literal,
    select,
    tuple_,
    type_coerce,
)

from statejobs.record.bulk.call import BulkMove
from statejobs.record.defaults import onupdate_values
from statejobs.record.identity import identity_in_sql
from statejobs.record.ledger import value_of
from statejobs.store.bulk import MovedRow
from statejobs.store.naming import Names, names_within
from statejobs.store.records import in_lock_order, move_matching
from statejobs.store.types import UtcDateTime


def names_in(move: BulkMove) -> Names:
    """Return names that meet nothing in the statements of *move*, whatever its caller gave."""
    values = [value for value in move.values.values() if is_sql(value)]
    criteria: Select[Any] = select(move.model.cls).where(*move.criteria)
    return names_within(move.model.table, [criteria, select(*values)])


def pick_and_move(dialect: Dialect, move: BulkMove, names: Names) -> Any:
    """Lock the matching records in the order of their keys, then move them; returns `MovedRow`s."""
    table = move.model.table
    keys = list(move.model.mapper.primary_key)
    record_id = _record_id(dialect, move)
    matching = _matching(move, move.declared.source, names).add_columns(
        move.model.state_column.label(names["was"])
    )
    picked = in_lock_order(matching, keys, table, dialect.name).cte(names["picked"])
    found = (key == picked.c[names[f"pk_{n}"]] for n, key in enumerate(keys))
    return _update(move, names, and_(*found)).returning(
        record_id.label("record_id"),
        table.c.state_version.label("version"),
        type_coerce(picked.c[names["was"]], String()).label("was"),
    )


def pick_and_move_each(
    connection: Connection, move: BulkMove, names: Names
) -> list[MovedRow]:
    """Move from one source after the other, for databases that return no old values.

    One writer at a time: nobody moves a record in between.
    """
    rows: list[MovedRow] = []
    keys = list(move.model.mapper.primary_key)
    # those that stay first: else whatever was moved there would be found again
    for source in sorted(
        move.declared.source, key=lambda state: state != move.declared.target
    ):
        picked = _matching(move, (source,), names, taken=len(rows)).correlate(None)
        matches = keys[0].in_(picked) if len(keys) == 1 else tuple_(*keys).in_(picked)
        statement = _update(move, names, matches).returning(
            _record_id(connection.dialect, move).label("record_id"),
            move.model.table.c.state_version.label("version"),
            literal(value_of(source), Text()).label("was"),
        )
        rows += [MovedRow(*row) for row in connection.execute(statement)]
    return sorted(rows)


def _matching(
    move: BulkMove, sources: tuple[enum.Enum, ...], names: Names, *, taken: int = 0
) -> Select[Any]:
    """Select the keys of the records in *sources* that match, as the ORM selects their class."""
    model = move.model
    keys = (
        key.label(names[f"pk_{n}"]) for n, key in enumerate(model.mapper.primary_key)
    )
    in_source = getattr(model.cls, model.attribute).in_(sources)
    statement = select(*keys).select_from(model.cls).where(in_source, *move.criteria)
    return (
        statement if move.limit is None else statement.limit(max(move.limit - taken, 0))
    )


def _update(move: BulkMove, names: Names, matches: ColumnElement[bool]) -> Any:
    table = move.model.table
    state = move.model.state_column
    written = {**onupdate_values(table), **move.values}
    given = {
        # SQLAlchemy would name the parameter like the column, and others like that too.
        column: value
        if is_sql(value)
        else bindparam(names[f"c_{n}"], value, type_=column.type)
        for n, (column, value) in enumerate(written.items())
    }
    target = bindparam(names["becomes"], move.declared.target, type_=state.type)
    at = bindparam(names["moved_at"], move.at, type_=UtcDateTime)
    return move_matching(move.model.records, matches, target=target, at=at, also=given)


def is_sql(value: object) -> bool:
    """Return whether *value* is made by the database."""
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")


def _record_id(dialect: Dialect, move: BulkMove) -> Any:
    where = f"{move.model.cls.__name__}.{move.declared.name}.bulk"
    return identity_in_sql(list(move.model.mapper.primary_key), dialect, where=where)

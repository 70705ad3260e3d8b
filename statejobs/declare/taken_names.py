"""Names in a database that are ours: of tables, of indexes, and of the CHECK of a state column."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import CheckConstraint, Column, Constraint, Index, Table

from statejobs.errors import DefinitionError
from statejobs.store.check_names import GUARDS_STATES, guards_states
from statejobs.store.tables import VERSION_TABLE, metadata


def refuse_taken_names(where: str, column: Column[object]) -> None:
    """Refuse what is named like ours on the table of *column*, which holds a state.

    Databases compare some names whatever their case, so all are compared so.

    Args:
        where: The class, for the message.
        column: Of the class.

    Raises:
        DefinitionError: With the name.
    """
    table = column.table
    named = [*_named(table)]
    for kind, name in named:
        if guards_states(name.lower(), table.name.lower(), column.name.lower()):
            whose = f"the CHECK that guards {column.name!r}"
            raise _taken(where, kind, name, whose, "migrations would take it for ours")
    if table.schema is not None:
        return
    ours = _ours()
    for kind, name in [("table", table.name), *named]:
        if name.lower() in ours and kind != "check constraint":
            whose = f"{ours[name.lower()]} of statejobs"
            raise _taken(where, kind, name, whose, "both would be in one schema")


def _taken(where: str, kind: str, name: str, whose: str, why: str) -> DefinitionError:
    return DefinitionError(
        where,
        f"its {kind} {name!r} has the name of {whose}",
        why=f"only one of the two could be made, and {why}",
        fix="give yours another name",
    )


def _ours() -> dict[str, str]:
    """Return what shares one namespace in a database, as a rule: tables and indexes."""
    found = {VERSION_TABLE: "a table"}
    for table in metadata.tables.values():
        found[table.name] = "a table"
        found.update((str(index.name), "an index") for index in table.indexes)
    return found


def _named(table: Table) -> Iterator[tuple[str, str]]:
    """Return the constraints and indexes of *table* that have a name, but for our own CHECKs."""
    items: list[Constraint | Index] = [*table.constraints, *table.indexes]
    for item in items:
        is_ours = isinstance(item, CheckConstraint) and GUARDS_STATES in item.info
        if isinstance(item.name, str) and not is_ours:
            yield (
                type(item).__name__.lower().replace("constraint", " constraint"),
                item.name,
            )

"""What a migration needs where a table that has rows becomes one of records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import (
    AddColumnOp,
    AlterColumnOp,
    ExecuteSQLOp,
    MigrateOperation,
    ModifyTableOps,
    UpgradeOps,
)
from alembic.util import PriorityDispatchResult
from sqlalchemy import (
    CheckConstraint,
    Column,
    DefaultClause,
    Enum,
    MetaData,
    String,
    Table,
    case,
    column,
    table,
    update,
)
from sqlalchemy.sql import quoted_name

from statejobs.store.check_names import guards_states
from statejobs.store.old_rows import OLD_ROWS, text_literal
from statejobs.store.types import StateType


def fill_old_rows(
    _context: AutogenContext,
    changes: ModifyTableOps,
    _schema: str | None,
    _name: str,
    _found: Table | None,
    _wanted: Table | None,
) -> PriorityDispatchResult:
    """Give each column of ours that a table gets a default for the rows that it has."""
    for change in changes.ops:
        if isinstance(change, AddColumnOp):
            change.column = _with_default(change.column)
    return PriorityDispatchResult.CONTINUE


def _with_default(added: Column[Any]) -> Column[Any]:
    filling = added.info.get(OLD_ROWS)
    if filling is None or added.server_default is not None:
        return added
    copied = added.table.to_metadata(MetaData()).columns[added.key]
    copied.server_default = DefaultClause(filling)
    return copied


def overlook_our_defaults(
    _context: AutogenContext,
    change: AlterColumnOp,
    _schema: str | None,
    _table: str,
    _name: str,
    _found: Column[Any],
    wanted: Column[Any],
) -> PriorityDispatchResult:
    """Call a default no difference that only the table has: it was made for rows of old."""
    if OLD_ROWS in wanted.info and wanted.server_default is None:
        change.modify_server_default = False
    return PriorityDispatchResult.CONTINUE


class NamesToValues(ExecuteSQLOp):
    """Rows hold the names of an enum, as of SQLAlchemy's own `Enum`; a state column has values."""

    def __init__(self, states: Column[Any], words: Mapping[str, str]) -> None:
        super().__init__(_translate(states, words))
        self._states = states
        self._words = words

    def reverse(self) -> NamesToValues:
        """Return what writes the names again."""
        return NamesToValues(
            self._states, {new: old for old, new in self._words.items()}
        )

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what `compare_metadata` shows."""
        return ("names_to_values", self._states.table.name, self._states.name)


def names_to_values(
    found: Table, check: CheckConstraint, *, guarded_by: Iterable[str]
) -> Iterator[NamesToValues]:
    """Return what the rows need before *check* is the first to guard the states they hold.

    Args:
        found: The table as it is.
        check: What is to guard it.
        guarded_by: Names of the constraints that it has.
    """
    for states in check.table.columns:
        held = found.columns.get(states.name)
        if held is None or not isinstance(states.type, StateType):
            continue
        first, *others = (
            guards_states(name, found.name, states.name)
            for name in (str(check.name), *guarded_by)
        )
        words = _words(states.type)
        if first and not any(others) and _holds_names(held, words):
            yield NamesToValues(states, words)


def translate_before_copies(
    _context: AutogenContext, upgrade: UpgradeOps
) -> PriorityDispatchResult:
    """Let rows hold values before SQLite copies them, and names again after the copy back."""
    steps: list[MigrateOperation] = []
    for step in upgrade.ops:
        if isinstance(step, ModifyTableOps):
            translations = [
                change for change in step.ops if isinstance(change, NamesToValues)
            ]
            step.ops = [change for change in step.ops if change not in translations]
            steps.extend(translations)
        steps.append(step)
    upgrade.ops = steps
    return PriorityDispatchResult.CONTINUE


def _words(states: StateType) -> dict[str, str]:
    """Return name → value; nothing where a name is also another's value."""
    words = {m.name: value for value, m in states.members.items() if m.name != value}
    return words if words.keys().isdisjoint(states.members) else {}


def _holds_names(held: Column[Any], words: Mapping[str, str]) -> bool:
    """Return whether SQLAlchemy's `Enum` made this column: natively, or as wide as a name."""
    if isinstance(held.type, Enum):
        return not words.keys().isdisjoint(held.type.enums)
    return isinstance(held.type, String) and held.type.length in {
        len(name) for name in words
    }


def _translate(states: Column[Any], words: Mapping[str, str]) -> str:
    """Return the UPDATE, as text for a migration, which runs on the database that it is for."""
    named = column(quoted_name(states.name, quote=True), String())
    schema = states.table.schema and quoted_name(states.table.schema, quote=True)
    rows = table(quoted_name(states.table.name, quote=True), named, schema=schema)
    listed = [text_literal(old) for old in words]
    whens = [
        (named == text_literal(old), text_literal(new)) for old, new in words.items()
    ]
    translated = case(*whens, else_=named)
    written = update(rows).values({named: translated}).where(named.in_(listed))
    return str(written).replace(":", r"\:")  # a migration's text has parameters

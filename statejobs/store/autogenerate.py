"""What lets a user's Alembic see a change of states, and write our tables plainly."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeGuard

from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import (
    AddConstraintOp,
    DropConstraintOp,
    ExecuteSQLOp,
    ModifyTableOps,
    UpgradeOps,
)
from alembic.runtime.plugins import Plugin
from alembic.util import DispatchPriority, PriorityDispatchResult
from sqlalchemy import CheckConstraint, Table, TypeDecorator
from sqlalchemy.sql.elements import conv

from statejobs.store.adoption import (
    fill_old_rows,
    names_to_values,
    overlook_our_defaults,
    translate_before_copies,
)
from statejobs.store.check_names import guards_states
from statejobs.store.tables import RESET_VACUUM, SET_VACUUM, jobs, metadata
from statejobs.store.types import CleanText, StateType, UtcDateTime

PLUGIN = "statejobs.autogenerate"

Render = Callable[[str, Any, Any], str | bool]
"""Alembic's `render_item`: code for an item, or False."""


def alembic_options(
    *, render_item: Render | None = None, autogenerate_plugins: Iterable[str] = ()
) -> dict[str, Any]:
    """Return what `context.configure()` in the `env.py` of a user's own Alembic needs.

    Autogenerate then sees a change of states, and writes our types and SQLModel's as plain
    SQLAlchemy ones, so that migrations import nothing of either. On SQLite it changes tables by
    copying them. CHECK constraints of the user's are left to what Alembic itself does with them.
    Where a table that may have rows gets columns of ours, those rows have a default in them.

    Args:
        render_item: One of the user's, asked for everything but our types.
        autogenerate_plugins: Some of the user's, beside Alembic's and ours.
    """
    _register()
    return {
        "autogenerate_plugins": [
            "alembic.autogenerate.*",
            PLUGIN,
            *autogenerate_plugins,
        ],
        "render_item": _render_ours_and(render_item),
    }


def _render_ours_and(others: Render | None) -> Render:
    def render(kind: str, item: Any, context: Any) -> str | bool:
        if kind == "type" and isinstance(item, (UtcDateTime, StateType, CleanText)):
            return _plainly(item, context)
        theirs = others(kind, item, context) if others else False
        if theirs is False and kind == "type" and _is_of_sqlmodel(item):
            return _plainly(item, context)
        return theirs

    return render


def _plainly(item: TypeDecorator[Any], context: Any) -> str:
    return f"{context.opts['sqlalchemy_module_prefix'] or ''}{item.impl_instance!r}"


def _is_of_sqlmodel(item: object) -> TypeGuard[TypeDecorator[Any]]:
    """Return whether SQLModel put this type over a plain one; Alembic does not import it."""
    return isinstance(item, TypeDecorator) and type(item).__module__.startswith(
        "sqlmodel."
    )


@cache
def _register() -> None:
    """Make ours known to Alembic, which looks plugins up by name."""
    compare = Plugin(PLUGIN).add_autogenerate_comparator
    compare(_copy_tables, "autogenerate", "statejobs_batch", qualifier="sqlite")
    compare(
        translate_before_copies,
        "autogenerate",
        "statejobs_translate",
        qualifier="sqlite",
        priority=DispatchPriority.LAST,
    )
    compare(_set_vacuum, "table", "statejobs_vacuum", qualifier="postgresql")
    # Last: what else compares has had its turn, and nothing is written twice.
    compare(
        _compare_checks, "table", "statejobs_checks", priority=DispatchPriority.LAST
    )
    compare(
        fill_old_rows, "table", "statejobs_old_rows", priority=DispatchPriority.LAST
    )
    compare(
        overlook_our_defaults,
        "column",
        "statejobs_defaults",
        priority=DispatchPriority.LAST,
    )


def _copy_tables(
    context: AutogenContext, _upgrade: UpgradeOps
) -> PriorityDispatchResult:
    """SQLite exchanges a constraint only by copying its table."""
    context.opts["render_as_batch"] = True
    return PriorityDispatchResult.CONTINUE


def _compare_checks(  # noqa: PLR0917 - Alembic fixes the signature
    context: AutogenContext,
    changes: ModifyTableOps,
    schema: str | None,
    name: str,
    found: Table | None,
    wanted: Table | None,
) -> PriorityDispatchResult:
    """Exchange those of our CHECKs whose names differ."""
    if found is not None and wanted is not None:
        texts = {
            check["name"]: check["sqltext"]
            for check in context.inspector.get_check_constraints(name, schema=schema)
            if check["name"]
        }
        _exchange(context, changes, texts, found=found, wanted=wanted)
    return PriorityDispatchResult.CONTINUE


def _exchange(
    context: AutogenContext,
    changes: ModifyTableOps,
    texts: dict[str, str],
    *,
    found: Table,
    wanted: Table,
) -> None:
    checks = _checks_of(wanted)
    planned = {getattr(change, "constraint_name", None) for change in changes.ops}
    is_ours = _ours(found, wanted)
    for name in sorted(filter(is_ours, texts.keys() - checks.keys() - planned)):
        old = CheckConstraint(texts[name], name=conv(name), table=found)
        if context.run_object_filters(old, old.name, "check_constraint", True, None):
            changes.ops.append(DropConstraintOp.from_constraint(old))
    for name in sorted(filter(is_ours, checks.keys() - texts.keys() - planned)):
        new = checks[name]
        if context.run_object_filters(new, new.name, "check_constraint", False, None):
            changes.ops.extend(names_to_values(found, new, guarded_by=texts))
            changes.ops.append(AddConstraintOp.from_constraint(new))


def _checks_of(table: Table) -> dict[str, CheckConstraint]:
    return {
        str(check.name): check
        for check in table.constraints
        if isinstance(check, CheckConstraint) and check.name
    }


def _ours(found: Table, wanted: Table) -> Callable[[str], bool]:
    """Return what tells our constraints of a table from the user's, by their names."""
    if wanted.metadata is metadata:
        return lambda name: name.startswith(f"ck_{wanted.name}_")
    columns = {column.name for table in (found, wanted) for column in table.columns}
    return lambda name: any(
        guards_states(name, wanted.name, column) for column in columns
    )


class _SetVacuum(ExecuteSQLOp):
    def __init__(self, table: str, *, undo: bool = False) -> None:
        super().__init__((RESET_VACUUM if undo else SET_VACUUM) % {"fullname": table})
        self.table = table
        self.undo = undo

    def reverse(self) -> _SetVacuum:
        return _SetVacuum(self.table, undo=not self.undo)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("set_vacuum", self.table)


def _set_vacuum(
    _context: AutogenContext,
    changes: ModifyTableOps,
    _schema: str | None,
    name: str,
    found: Table | None,
    _wanted: Table | None,
) -> PriorityDispatchResult:
    """Write beside our CREATE TABLE the options that SQLAlchemy 2.0 does not write in it."""
    if found is None and name == jobs.name:
        changes.ops.append(_SetVacuum(name))
    return PriorityDispatchResult.CONTINUE

"""Fuses a finish into one statement, for databases where a CTE may write.

The ordered list stays the same (record, then job, then history), each part depending on the one
before; the statement is its own transaction. It saves the round trips and the BEGIN and COMMIT.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Executable,
    Update,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal_column,
    select,
)

from statejobs.store.finish import finishing
from statejobs.store.history import HISTORY_COLUMNS, HistoryRow
from statejobs.store.naming import Names
from statejobs.store.tables import transitions

NOT_OURS = "22012"
"""SQLSTATE (division by zero) with which the fused statement rolls itself back."""


def fuse(move: Update, names: Names, *, has_history: bool) -> Executable:
    """Return one statement that moves a record, finishes its job and writes history.

    It returns how many records moved, and the job's new state. When the record moved but the job
    was not ours, it fails with `NOT_OURS`, so that nothing of it is kept.

    Args:
        move: The guarded UPDATE of the record.
        names: What the parameters are called, those of *move* too.
        has_history: Whether a row of history is written; its values are `h_…` parameters.
    """
    moved = move.returning(literal_column("1").label("one")).cte(names["moved"])
    finish: Any = finishing(names)
    finished = finish.where(exists(select(moved.c.one))).cte(names["finished"])
    count = select(func.count()).select_from(moved).scalar_subquery()
    state = select(finished.c.state).scalar_subquery()
    guard = 1 / case((state.is_(None) & (count == 1), 0), else_=1)
    fused = select(count.label("moved"), state.label("state"), guard.label("guard"))
    if not has_history:
        return fused
    values = [bindparam(names[f"h_{n}"], type_=transitions.c[n].type) for n in HISTORY_COLUMNS]
    row = select(*values).where(exists(select(finished.c.state)))
    history = insert(transitions).from_select(list(HISTORY_COLUMNS), row)
    return fused.add_cte(history.cte(names["history"]))


def history_parameters(row: HistoryRow) -> dict[str, Any]:
    """Return a row of history as parameters of the fused statement."""
    return {f"h_{name}": getattr(row, name) for name in HISTORY_COLUMNS}

"""An INSERT of the user's that also tells which records it inserted."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, literal_column

from statejobs.store.records import RecordTable


def returning_keys(
    statement: Any,
    records: RecordTable,
    *,
    tenant: ColumnElement[Any] | None,
    tells_new: bool,
) -> Any:
    """Let *statement* return the keys, and the *tenant*, as well, behind what it returns.

    The last column *tells_new* rows from those that were there and were updated, on PostgreSQL.
    """
    asked: list[ColumnElement[Any]] = [*records.keys]
    if tenant is not None:
        asked.append(tenant)
    if tells_new:
        asked.append(literal_column("xmax = 0"))
    return statement.returning(
        *(
            column.label(records.names[f"returned_{n}"])
            for n, column in enumerate(asked)
        )
    )

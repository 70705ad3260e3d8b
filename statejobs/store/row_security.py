"""Policies of PostgreSQL that hide rows from a role."""

from __future__ import annotations

from sqlalchemy import Connection, Table, func, select, text
from sqlalchemy.dialects.postgresql import OID


def policies_of(connection: Connection, table: Table) -> tuple[str, str] | None:
    """Return the table and this role, when policies of the table hold for it."""
    if connection.dialect.name != "postgresql":
        return None
    name = connection.dialect.identifier_preparer.format_table(table)
    found = func.to_regclass(name).cast(OID)
    is_active, role = connection.execute(
        select(func.row_security_active(found), text("current_user"))
    ).one()
    return (name, role) if is_active else None

"""Tables that somebody has locked, as to alter them."""

from __future__ import annotations

from sqlalchemy import Connection, Executable, text


def locked_tables(connection: Connection) -> list[str]:
    """Return the tables that somebody has locked against being read or written."""
    if connection.dialect.name != "postgresql":
        return []
    return [
        f"{name!r} (process {pid})" for name, pid in connection.execute(_LOCKED_TABLES)
    ]


def _find_locked_tables() -> Executable:
    """Find the tables of this PostgreSQL database that others have locked, and which process."""
    return text(
        "SELECT DISTINCT c.relname, l.pid FROM pg_catalog.pg_locks l"
        " JOIN pg_catalog.pg_class c ON c.oid = l.relation"
        " JOIN pg_catalog.pg_database d ON d.oid = l.database"
        " WHERE d.datname = current_database() AND l.granted AND l.pid <> pg_backend_pid()"
        " AND c.relkind IN ('r', 'p')"
        " AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',"
        " 'AccessExclusiveLock')"
        " ORDER BY 1, 2"
    )


_LOCKED_TABLES = _find_locked_tables()

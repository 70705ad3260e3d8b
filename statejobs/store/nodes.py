"""What the rows of other worker processes say."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from statejobs.store.statements import nodes as nodes_sql


def read_declarations(connection: Connection, alive_since: datetime) -> list[str]:
    """Return what the worker processes declare that were alive since then."""
    return list(connection.scalars(_DECLARATIONS, {"since": alive_since}))


_DECLARATIONS = nodes_sql.find_declarations()

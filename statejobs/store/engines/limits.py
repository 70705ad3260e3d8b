"""How many connections the server allows us, and whether a worker can do with them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sqlalchemy import Engine, text

from statejobs.errors import ConfigurationError
from statejobs.store.engines.reserve import BESIDE

log = logging.getLogger("statejobs.worker")

_LIMITS = text("""
SELECT current_database(), datconnlimit, session_user, rolconnlimit, rolsuper, pg_backend_pid()
FROM pg_database, pg_roles
WHERE datname = current_database() AND rolname = session_user
""")


@dataclass(frozen=True, slots=True)
class Limit:
    """Most connections that somebody may have, whoever else shares them."""

    whose: str
    most: int
    sql: str
    """How to change it, with the number to come."""


def check_connections(engine: Engine, *, slots: int) -> None:
    """Refuse to work where a worker could not even renew its leases.

    Args:
        engine: The database.
        slots: How many jobs the worker runs at once.

    Raises:
        ConfigurationError: The role or the database may have fewer connections than it takes.
    """
    limit = _find_limit(engine)
    if limit is None or limit.most >= BESIDE + slots:
        return
    wanted = f"{BESIDE} for leases, claims, outcomes and hints, and one for each of {slots} slots"
    if limit.most > BESIDE:
        log.warning(
            "%s may have %d connections, a worker wants %d (%s): jobs will wait for each other",
            limit.whose,
            limit.most,
            BESIDE + slots,
            wanted,
        )
        return
    raise ConfigurationError(
        f"{limit.whose} may have {limit.most} connections, a worker needs at least {BESIDE + 1}",
        why=f"it takes {wanted}",
        fix=f"{limit.sql} {BESIDE + slots}, times the number of worker processes",
    )


def _find_limit(engine: Engine) -> Limit | None:
    """Return the lowest limit; None without one, or behind a pooler, which shares them out."""
    if engine.dialect.name != "postgresql":
        return None
    with engine.connect() as connection:
        row = connection.execute(_LIMITS).first()
        info = getattr(connection.connection.driver_connection, "info", None)
        # a connection without a pool is closed below
        pid = getattr(info, "backend_pid", None)
    if row is None or row.rolsuper or pid != row.pg_backend_pid:
        return None
    quote = engine.dialect.identifier_preparer.quote_identifier
    role = quote(row.session_user)
    database = quote(row.current_database)
    limits = [
        Limit(f"role {role}", row.rolconnlimit, f"ALTER ROLE {role} CONNECTION LIMIT"),
        Limit(
            f"database {database}",
            row.datconnlimit,
            f"ALTER DATABASE {database} CONNECTION LIMIT",
        ),
    ]
    return min(
        (one for one in limits if one.most >= 0), key=lambda one: one.most, default=None
    )

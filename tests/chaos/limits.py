"""A role that is no superuser, and so can be refused another connection."""

import psycopg
from sqlalchemy import URL

from tests.chaos.field import Field

ROLE = "chaos_worker"
_LASTS = (1.5, 3.0)  # seconds
_LEAST = 6  # connections: a worker that starts with fewer would refuse to
_MAKE = f"""
CREATE ROLE {ROLE} LOGIN;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {ROLE};
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO {ROLE};
"""
_HELD = "SELECT pid FROM pg_stat_activity WHERE usename = %s ORDER BY pid"


def make_role(direct: URL) -> URL:
    """Make the role of workers and submitters; return *direct* with it."""
    with _connect(direct) as connection:
        connection.execute(_MAKE)
    return direct.set(username=ROLE)


def limit_connections(field: Field) -> None:
    """Allow half of what is used, and end a third of it, so that nobody gets another one."""
    database = f"DATABASE {field.engine.url.database}"
    whose = field.rng.choice([f"ROLE {ROLE}", database])
    with _connect(field.engine.url) as connection:
        held = [pid for (pid,) in connection.execute(_HELD, [ROLE]).fetchall()]
        _limit(connection, whose, max(len(held) // 2, _LEAST))
        try:
            for pid in field.rng.sample(held, len(held) // 3):
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])
            field.wait(field.rng.uniform(*_LASTS))
        finally:
            _limit(connection, whose, -1)


def _limit(connection: psycopg.Connection, whose: str, most: int) -> None:
    connection.execute(f"ALTER {whose} CONNECTION LIMIT {most}")


def _connect(url: URL) -> psycopg.Connection:
    conninfo = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(conninfo, autocommit=True)

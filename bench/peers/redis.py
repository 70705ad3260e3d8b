"""A Redis for the libraries that need one, as durable as the databases beside it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import threading

_LONGEST = 10.0  # seconds to start


class RedisServer:
    """A throw-away server on a free port, which flushes every command to the disk."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="statejobs-redis-")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port = listener.getsockname()[1]
        program = shutil.which("redis-server") or "redis-server"
        self._process = subprocess.Popen(
            [
                program,
                "--port",
                str(self._port),
                "--dir",
                self._directory.name,
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ],
            stdout=subprocess.DEVNULL,
        )
        pause = threading.Event()
        for _ in range(int(_LONGEST / 0.05)):
            with contextlib.suppress(OSError):
                self.ask("PING")
                return
            pause.wait(0.05)
        raise TimeoutError(f"redis-server did not answer within {_LONGEST:g} s")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self._port}/0"

    def ask(self, command: str) -> str:
        """Return the one line of its answer to *command*."""
        with socket.create_connection(
            ("127.0.0.1", self._port), timeout=10
        ) as connection:
            connection.sendall(f"{command}\r\n".encode())
            return connection.makefile().readline().strip()

    def count(self, commands: tuple[str, ...]) -> int:
        """Return the sum of the numbers that *commands* answer."""
        return sum(int(self.ask(command).removeprefix(":")) for command in commands)

    def stop(self) -> None:
        """End it, and its files with it."""
        self._process.terminate()
        self._process.wait(10)
        self._directory.cleanup()

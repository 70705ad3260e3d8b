"""The worker of the demo: a child process that runs the real command line."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import make_url

from order_flow.gateway import ADDRESS_VARIABLE

COMMAND = (
    sys.executable,
    *["-m", "statejobs", "worker", "--app", "order_flow.app:make_app"],
)
_PACKAGES = str(Path(__file__).resolve().parents[1])
_PATIENCE = 15.0  # seconds that it may take to end after SIGTERM


def _without_ours(environ: Mapping[str, str]) -> dict[str, str]:
    """Leave out what is said to other workers, such as which queues they serve."""
    return {k: v for k, v in environ.items() if not k.startswith("STATEJOBS_")}


class WorkerProcess:
    """`statejobs worker` on the shop, while the `with` block runs."""

    def __init__(self, database: str, gateway: str, *, log: Path) -> None:
        self._log = log
        # In the environment: others can read the arguments of a process, and a URL may hold a
        # password.
        self._environment = {
            "PYTHONPATH": os.pathsep.join(
                filter(None, [_PACKAGES, os.getenv("PYTHONPATH")])
            ),
            ADDRESS_VARIABLE: gateway,
            "STATEJOBS_DATABASE": database,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a command of ours
                COMMAND,
                env={**_without_ours(os.environ), **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C is for the demo, which then ends its worker in order
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()

    @property
    def restart(self) -> str:
        """What to do in a shell to start such a worker; a password is left out, and that is said.

        The command is the last line.
        """
        database = make_url(self._environment["STATEJOBS_DATABASE"])
        shown = {**self._environment, "STATEJOBS_DATABASE": database.render_as_string()}
        words = [f"{name}={shlex.quote(value)}" for name, value in shown.items()]
        hint = (
            "(put the password of the database where *** stands)\n"
            if database.password
            else ""
        )
        return f"{hint}{' '.join([*words, shlex.join(COMMAND)])}"

    @property
    def ending(self) -> str | None:
        """How the process ended; None while it runs."""
        code = self._process.poll() if self._process else None
        if code is None:
            return None
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return (
            f"exit code {code}: {self.log.splitlines()[-1]}"
            if self.log
            else f"exit code {code}"
        )

    @property
    def log(self) -> str:
        """The last lines that it logged."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])

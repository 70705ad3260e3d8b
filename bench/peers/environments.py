"""Makes an environment for each library under .bench/peers, once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.peers.catalogue import Peer

HOME = Path(".bench/peers")
PYTHON_VARIABLE = "STATEJOBS_BENCH_PEER_PYTHON"


class UnavailableError(Exception):
    """A library cannot be measured here, and why."""


def python_of(peer: Peer) -> Path:
    """Return the Python of the environment of *peer*, made when it is missing.

    Raises:
        UnavailableError: A program or a Python is missing, or it does not install.
    """
    if peer.needs and shutil.which(peer.needs) is None:
        raise UnavailableError(f"there is no {peer.needs}")
    directory = HOME / peer.name
    python = directory / "bin/python"
    marker = directory / "installed"
    if not marker.exists():
        _run([_base_python(peer), "-m", "venv", "--clear", str(directory)])
        _run([str(python), "-m", "pip", "install", "-q", *peer.packages])
        marker.touch()
    return python.absolute()


def _base_python(peer: Peer) -> str:
    names = [f"python3.{minor}" for minor in (13, 14, 12, 11)]
    for candidate in (
        os.environ.get(PYTHON_VARIABLE),
        sys.executable,
        *map(shutil.which, names),
    ):
        if candidate and _version(candidate) >= peer.python:
            return candidate
    wanted = ".".join(map(str, peer.python))
    raise UnavailableError(f"it needs Python {wanted}: name one in {PYTHON_VARIABLE}")


def _version(python: str) -> tuple[int, ...]:
    command = [python, "-c", "import sys; print(*sys.version_info[:2])"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return tuple(map(int, found.stdout.split())) or (0,)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "WARNING" not in line]
        raise UnavailableError(
            f"it does not install: {lines[-1] if lines else done.returncode}"
        )

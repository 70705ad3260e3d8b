"""A disk that can be full: a small tmpfs in a mount namespace of our own, else a file size limit.

The namespace needs no privilege where the kernel lets users make one, and the mount is gone with
the last process in it, however that died.
"""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

_INSIDE = "CHAOS_NAMESPACE"
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
_SIZE = "512m"  # far more than a run needs: it is full when the ballast says so
_BLOCK = 64 * 1024


class Disk(Protocol):
    """Where a SQLite file lies."""

    how: str
    """How it gets full, for the report."""

    def fill(self, processes: Iterable[int]) -> None:
        """Let writes fail."""

    def free(self, processes: Iterable[int]) -> None:
        """Let them succeed again."""

    def close(self) -> None:
        """Give the directory back."""


def enter_namespace() -> None:
    """Run this program again in a mount namespace of its own, where that is allowed."""
    if os.environ.get(_INSIDE) or shutil.which("unshare") is None:
        return
    if subprocess.run(
        [*_NAMESPACE, "true"], capture_output=True, check=False
    ).returncode:
        return
    os.environ[_INSIDE] = "1"
    os.execvp(_NAMESPACE[0], [*_NAMESPACE, *sys.orig_argv])


def make_disk(directory: Path) -> Disk:
    """Return a disk on *directory*: the best kind that works here."""
    if os.environ.get(_INSIDE):
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(directory)]
        if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            return SmallDisk(directory)
    return LimitedFiles(directory)


class SmallDisk:
    """A tmpfs that a ballast file fills up: SQLite sees ENOSPC."""

    how = "tmpfs, ENOSPC"

    def __init__(self, directory: Path) -> None:
        self._directory, self._ballast = directory, directory / "ballast"

    def fill(self, processes: Iterable[int]) -> None:
        """Write until nothing fits any more."""
        with (
            contextlib.suppress(OSError),
            self._ballast.open("wb", buffering=0) as ballast,
        ):
            while ballast.write(bytes(_BLOCK)):
                pass

    def free(self, processes: Iterable[int]) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it, whoever still has a file open."""
        subprocess.run(["umount", "--lazy", str(self._directory)], check=True)


class LimitedFiles:
    """RLIMIT_FSIZE, set from outside on running processes: SQLite sees EFBIG."""

    how = "RLIMIT_FSIZE, EFBIG"

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def fill(self, processes: Iterable[int]) -> None:
        """Let no database file grow beyond its present size."""
        sizes = [file.stat().st_size for file in self._directory.glob("*.db*")]
        for pid in processes:
            _limit(pid, min(sizes))

    def free(self, processes: Iterable[int]) -> None:
        """Lift the limit."""
        for pid in processes:
            _limit(pid, None)

    def close(self) -> None:
        """Nothing to do: the limits end with the processes."""


def _limit(pid: int, size: int | None) -> None:
    with contextlib.suppress(ProcessLookupError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(
            pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard)
        )

"""Wakes workers on a file of SQLite, across processes, by datagrams after the commit.

The sockets are in a directory beside the file that only its owner may enter, so that nobody can
plant a name there. Whoever sends touches nothing; whoever listens removes sockets that are dead.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Engine

from statejobs.errors import ConfigurationError
from statejobs.store.engines.sqlite import database_path

log = logging.getLogger("statejobs.listen")

_HAS_PROC = Path("/proc/self/fd").is_dir()
_ID_DIGITS = 12
_TRIES = 3
_OURS_ALONE = 0o700
_OTHERS = 0o077
_MADE = stat.S_ISVTX
"""Bit of a directory that we made, which means nothing where one alone may enter."""
_DEAD_AFTER = 10.0
"""Seconds that a socket is left alone which nobody listens on: it may be about to be."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def wake_listeners(engine: Engine) -> None:
    """Tell every worker on this file that there may be work; never fails, never blocks."""
    path = database_path(engine)
    if path is None:
        return
    # The commit is done: whatever is raised here would say that it is not.
    with suppress(Exception), _entered(_directory_beside(path)) as place:
        _wake_in(place)


class SqliteListener:
    """Listens on a socket of its own; without one, its worker finds work by looking."""

    def __init__(
        self, engine: Engine, node_id: str, on_wake: Callable[[], None]
    ) -> None:
        path = database_path(engine)
        if path is None:
            raise ConfigurationError(
                "SQLite in memory has no file to listen beside",
                why="workers are told of new jobs by sockets in a directory named after the file",
                fix="use a file, for instance sqlite:///app.db",
            )
        self._directory = _directory_beside(path)
        self._name = node_id[:_ID_DIGITS]
        self._on_wake = on_wake
        self._ear: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def start(self) -> None:
        """Bind and listen, if the file system and the limits of the process allow it."""
        try:
            self._ear = _bind(self._directory, self._name)
        except _NotOursError:
            log.warning(
                "%s is not a directory that only this user may enter: workers are not woken, and "
                "look for work at intervals. Move it away if nobody needs it",
                self._directory,
            )
            return
        except OSError as error:  # read-only, without sockets, no descriptor
            log.debug("workers on %s are not woken: %s", self._directory, error)
            return
        self._thread = threading.Thread(
            target=self._listen, args=[self._ear], name="statejobs-wake", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; remove the socket, and after the last of them a directory of ours."""
        self._stopped = True
        if self._ear is None or self._thread is None:
            return
        address = self._directory / self._name
        with suppress(OSError):
            _interrupt(self._ear, address)
        with suppress(OSError):
            address.unlink()
            _leave(self._directory)
        self._thread.join(timeout=1)

    def _listen(self, ear: socket.socket) -> None:
        with ear, suppress(OSError):
            while True:
                ear.recv(16)
                if self._stopped:
                    return
                self._on_wake()


class _NotOursError(PermissionError):
    """Others could have put there whatever they like.

    Unwinds as an OSError beside those of the system: whoever only listens cannot in any of them.
    """


def _directory_beside(path: Path) -> Path:
    """Return where the sockets of a database are, by whatever links it is reached."""
    found = Path(os.path.realpath(path))
    return found.with_name(f"{found.name}-wake")


@contextmanager
def _entered(directory: Path) -> Iterator[_Place]:
    """Open *directory*, which nobody can exchange from then on.

    Raises:
        OSError: It is not there, or others may enter it as well.
    """
    descriptor = os.open(directory, _DIRECTORY)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or found.st_mode & _OTHERS:
            raise _NotOursError(directory)
        yield _Place(directory, descriptor)
    finally:
        os.close(descriptor)


class _Place:
    """The directory of the sockets, open."""

    def __init__(self, directory: Path, descriptor: int) -> None:
        self._directory = directory
        self.descriptor = descriptor

    def address(self, name: str) -> str:
        """Return where the socket *name* is, in the few bytes that an address may have."""
        if _HAS_PROC:
            return f"/proc/self/fd/{self.descriptor}/{name}"
        return str(self._directory / name)

    def sockets(self) -> list[str]:
        """Return the names of the sockets; what else is there is not ours."""
        with os.scandir(self.descriptor) as entries:
            return [
                e.name
                for e in entries
                if stat.S_ISSOCK(e.stat(follow_symlinks=False).st_mode)
            ]

    def remove_dead(self) -> None:
        """Remove the sockets of workers that were killed."""
        latest = time.time() - _DEAD_AFTER  # by the clock of the file system
        for name in self.sockets():
            with suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
                if found.st_mtime < latest and self._is_dead(name):
                    os.unlink(name, dir_fd=self.descriptor)

    def _is_dead(self, name: str) -> bool:
        with _datagrams() as caller:
            try:
                caller.connect(self.address(name))
            except ConnectionRefusedError:
                return True
            except OSError:
                return False
        return False


def _wake_in(place: _Place) -> None:
    with _datagrams() as sender:
        sender.setblocking(False)
        for name in place.sockets():
            with suppress(OSError):
                # its worker was killed, or its buffer is full: it was told
                sender.sendto(b"w", place.address(name))


def _bind(directory: Path, name: str) -> socket.socket:
    """Return a socket bound in *directory*, which is made if it is not there."""
    tries = iter(range(_TRIES))
    while True:
        with suppress(FileExistsError):
            directory.mkdir(_OURS_ALONE)
            directory.chmod(_OURS_ALONE | _MADE)
        try:
            with _entered(directory) as place:
                place.remove_dead()
                return _bound(place.address(name))
        except FileNotFoundError:  # the last one that listened has just removed it
            if next(tries, None) is None:
                raise


def _leave(directory: Path) -> None:
    """Remove *directory* after the last socket, if one of us made it; takes no descriptor."""
    found = directory.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_mode & _MADE:
        directory.rmdir()


def _bound(address: str) -> socket.socket:
    ear = _datagrams()
    try:
        ear.bind(address)
    except OSError:
        ear.close()
        raise
    return ear


def _interrupt(ear: socket.socket, address: Path) -> None:
    """End the wait of whoever listens on *ear*, on Linux without another descriptor."""
    try:
        ear.shutdown(socket.SHUT_RDWR)
    except OSError:
        with _datagrams() as sender:
            sender.sendto(b"s", str(address))


def _datagrams() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

"""Workers on a file of SQLite are woken, and nothing else is touched."""

import os
import random
import resource
import socket
import stat
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from statejobs import configure_sqlite
from statejobs.store.engines.factory import make_listener, wake_workers


@pytest.fixture
def path(tmp_path):
    return tmp_path / "test.db"


def directory_of(path):
    return path.with_name(f"{path.name}-wake")


@contextmanager
def opened(path):
    engine = configure_sqlite(create_engine(f"sqlite:///{path}"))
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def listening(engine, node_id="0123456789abcdef"):
    """Listen; gives what is released at each wake-up."""
    woken = threading.Semaphore(0)
    listener = make_listener(engine, node_id, woken.release, random.Random(0))
    listener.start()
    try:
        yield woken
    finally:
        listener.stop()


@contextmanager
def datagrams(address):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(address))
        yield ear


def kinds_in(directory):
    return {
        e.name: stat.S_IFMT(e.stat(follow_symlinks=False).st_mode)
        for e in os.scandir(directory)
    }


def test_every_worker_on_the_file_is_woken(path):
    with (
        opened(path) as engine,
        listening(engine, "a") as first,
        opened(path) as other,
        listening(other, "b") as second,
    ):
        wake_workers(engine)

        assert first.acquire(timeout=30)
        assert second.acquire(timeout=30)


def test_a_worker_is_woken_whatever_the_length_of_the_path(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with opened(deep / "test.db") as engine, listening(engine) as woken:
        wake_workers(engine)

        assert woken.acquire(timeout=30)


def test_a_worker_is_woken_by_whoever_reaches_the_file_through_a_link(path):
    link = path.with_name("link.db")
    link.symlink_to(path)
    with opened(path) as engine, opened(link) as other, listening(engine) as woken:
        wake_workers(other)

        assert woken.acquire(timeout=30)


def test_only_its_owner_enters_the_directory_of_the_sockets(path):
    with opened(path) as engine, listening(engine):
        assert directory_of(path).stat().st_mode & 0o777 == 0o700


def test_nothing_is_left_behind_when_the_last_worker_stops(path):
    with opened(path) as engine:
        with listening(engine, "a"):
            with listening(engine, "b"):
                pass
            assert set(kinds_in(directory_of(path))) == {"a"}

        assert not directory_of(path).exists()


@pytest.mark.parametrize("workers", ["one", "two"])
def test_an_empty_directory_of_somebody_elses_stays(path, workers):
    directory_of(path).mkdir(0o700)
    with opened(path) as engine, listening(engine, "a") as woken:
        if workers == "two":
            with listening(engine, "b"):
                pass
        wake_workers(engine)
        assert woken.acquire(timeout=30)

    assert kinds_in(directory_of(path)) == {}


def test_whoever_stops_last_removes_what_the_first_has_made(path):
    with opened(path) as engine:
        first, second = (
            make_listener(engine, name, lambda: None, random.Random(0)) for name in "ab"
        )
        first.start()
        second.start()
        first.stop()
        assert set(kinds_in(directory_of(path))) == {"b"}
        second.stop()

    assert not directory_of(path).exists()


def test_a_hint_touches_nothing_that_is_no_socket_of_a_worker(path, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with opened(path) as engine, listening(engine) as woken:
        for place in (directory_of(path), tmp_path):
            prefix = place / f"{path.name}-wake-notes"
            prefix.with_suffix(".txt").write_text("precious")
            prefix.with_suffix(".link").symlink_to(tmp_path / "mine.txt")
            prefix.with_suffix(".dir").mkdir()
            os.mkfifo(prefix.with_suffix(".fifo"))
        with datagrams(tmp_path / "mine.socket") as ear:
            ear.setblocking(False)
            (directory_of(path) / ("0" * 12)).symlink_to(tmp_path / "mine.socket")
            with datagrams(directory_of(path) / "dead"):
                pass
            before = kinds_in(directory_of(path)), kinds_in(tmp_path)

            wake_workers(engine)

            assert woken.acquire(timeout=30)
            with pytest.raises(BlockingIOError):
                ear.recv(16)
        assert (kinds_in(directory_of(path)), kinds_in(tmp_path)) == before
    assert (tmp_path / "mine.txt").read_text() == "precious"


def link_to_a_directory(place):
    target = place.with_name("elsewhere")
    target.mkdir(mode=0o700)
    place.symlink_to(target)
    return target


def open_to_others(place):
    place.mkdir()
    place.chmod(0o755)
    return place


@pytest.mark.parametrize("plant", [link_to_a_directory, open_to_others])
def test_a_directory_that_others_may_have_planted_is_not_used(path, plant, caplog):
    target = plant(directory_of(path))
    with opened(path) as engine, datagrams(target / "a") as ear, listening(engine, "b"):
        ear.setblocking(False)

        wake_workers(engine)

        with pytest.raises(BlockingIOError):
            ear.recv(16)
        assert set(kinds_in(target)) == {"a"}


def test_a_directory_that_others_may_enter_is_named(path, caplog):
    open_to_others(directory_of(path))
    with opened(path) as engine, listening(engine):
        pass

    assert (
        f"{directory_of(path)} is not a directory that only this user may enter"
        in caplog.text
    )


def test_a_file_of_the_name_of_the_directory_stays(path):
    directory_of(path).write_text("precious")
    with opened(path) as engine, listening(engine):
        wake_workers(engine)

    assert directory_of(path).read_text() == "precious"


def test_a_hint_looks_into_its_own_directory_only(path, tmp_path, monkeypatch):
    """Beside many files, each commit would take the longer the more there are."""
    seen, scan, listed = [], os.scandir, os.listdir
    monkeypatch.setattr(
        os, "scandir", lambda place=".": seen.append(place) or scan(place)
    )
    monkeypatch.setattr(
        os, "listdir", lambda place=".": seen.append(place) or listed(place)
    )
    with opened(path) as engine, listening(engine) as woken:
        seen.clear()

        wake_workers(engine)

        assert woken.acquire(timeout=30)
        assert len(seen) == 1
        assert not isinstance(seen[0], str | Path)  # what it has opened


def test_a_worker_that_starts_removes_the_sockets_of_those_that_were_killed(path):
    place = directory_of(path)
    long_ago = time.time() - 3600
    with opened(path) as engine, listening(engine, "alive"):
        for name in ("killed", "starting"):
            with datagrams(place / name):
                pass
        for name in ("killed", "alive"):
            os.utime(place / name, (long_ago, long_ago))

        with listening(engine, "new"):
            assert set(kinds_in(place)) == {"alive", "starting", "new"}


@pytest.mark.parametrize("what", ["wake", "listen"])
def test_a_database_that_is_gone_harms_nobody(path, what):
    with opened(path.with_name("gone") / "test.db") as engine:
        if what == "wake":
            wake_workers(engine)
        else:
            with listening(engine):
                pass


def test_a_hint_that_cannot_be_sent_for_want_of_a_descriptor_says_nothing(path):
    """The transaction is committed already: an error would make its caller do it twice."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (
        opened(path) as engine,
        closing(engine.raw_connection()),
        listening(engine) as woken,
    ):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            wake_workers(engine)
            listener = make_listener(engine, "deaf", lambda: None, random.Random(0))
            listener.start()  # finds its work by looking
            listener.stop()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        wake_workers(engine)

        assert woken.acquire(timeout=30)


def test_a_worker_stops_when_no_descriptor_is_free(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = threading.active_count()
    with opened(path) as engine, listening(engine):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert threading.active_count() == before
    assert not directory_of(path).exists()

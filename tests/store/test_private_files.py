"""A file of SQLite that we make is for its owner alone, unless the umask or the user says so."""

import os
import stat
import threading

import pytest
from sqlalchemy import text

from statejobs import StateJobs
from statejobs.store.engines.factory import open_engine


@pytest.fixture
def umask():
    """Sets the umask for the test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def write(url):
    """Write, and return the modes of the files while they are open."""
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (i int)"))
    yield
    engine.dispose()


def test_it_is_made_for_its_owner_alone(tmp_path, umask):
    umask(0)

    for _ in write(f"sqlite:///{tmp_path}/app.db"):
        assert {p.name: mode_of(p) for p in tmp_path.iterdir()} == {
            "app.db": 0o600,
            "app.db-wal": 0o600,
            "app.db-shm": 0o600,
        }


def test_the_umask_may_take_more(tmp_path, umask):
    umask(0o277)

    try:
        for _ in write(f"sqlite:///{tmp_path}/app.db"):
            pass
    except Exception:  # noqa: BLE001 - only root may write it then
        assert os.geteuid() != 0

    assert mode_of(tmp_path / "app.db") == 0o400


def test_a_file_that_is_there_keeps_its_mode(tmp_path, umask):
    path = tmp_path / "app.db"
    path.touch()
    path.chmod(0o664)

    for _ in write(f"sqlite:///{path}"):
        assert mode_of(path) == mode_of(tmp_path / "app.db-wal") == 0o664


def test_a_link_leads_to_the_file(tmp_path, umask):
    (tmp_path / "link.db").symlink_to(tmp_path / "app.db")

    for _ in write(f"sqlite:///{tmp_path}/link.db"):
        assert mode_of(tmp_path / "app.db") == 0o600


def test_an_address_with_escapes_names_one_file(tmp_path, umask):
    for _ in write(f"sqlite:///file:{tmp_path}/a%20b.db?uri=true"):
        assert {p.name for p in tmp_path.iterdir()} == {
            "a b.db",
            "a b.db-wal",
            "a b.db-shm",
        }
        assert mode_of(tmp_path / "a b.db") == 0o600


def test_who_may_only_read_makes_nothing(tmp_path):
    engine = open_engine(f"sqlite:///file:{tmp_path}/app.db?mode=ro&uri=true")

    with pytest.raises(Exception, match="unable to open"):
        engine.connect()

    assert [*tmp_path.iterdir()] == []


def test_apps_that_start_at_once_make_one_file(tmp_path, umask):
    apps = [StateJobs(f"sqlite:///{tmp_path}/app.db", domains=[]) for _ in range(4)]
    threads = [threading.Thread(target=app.create_all) for app in apps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert mode_of(tmp_path / "app.db") == 0o600
    for app in apps:
        app.close()

"""Fixtures of every test: databases and chance."""

import os
import secrets
import sys
import uuid

import pytest

from tests.support.postgres import PostgresUnavailableError, shared_databases


def pytest_configure(config):
    """Compile each module once, also where the environment lets nobody write that down.

    A run starts hundreds of processes; each would compile everything again.
    """
    if sys.dont_write_bytecode:
        kept = str(config.rootpath / ".pytest_cache" / "bytecode")
        sys.dont_write_bytecode, sys.pycache_prefix = False, kept
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = kept
    from tests.support.compiled import share_compiled
    from tests.support.kept_tables import keep_tables

    share_compiled()
    keep_tables()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory):
    """The PostgreSQL of this test run; xdist's workers share one."""
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent
    try:
        with shared_databases(directory) as server:
            yield server
    except PostgresUnavailableError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))


@pytest.fixture(scope="session")
def spare_databases(postgres_server):
    """Empty PostgreSQL databases: tests take them, and put them back emptied."""
    spares = {}
    yield spares
    for name in spares:
        postgres_server.drop_database(name)


@pytest.fixture
def postgres_url(postgres_server, spare_databases):
    """URL of an empty PostgreSQL database."""
    from tests.support.kept_tables import KeptTables

    if spare_databases:
        name, kept = spare_databases.popitem()
    else:
        name = f"statejobs_{uuid.uuid4().hex}"
        postgres_server.create_database(name)
        kept = KeptTables(postgres_server, name)
    with kept.serve():
        yield postgres_server.url(name)
    postgres_server.empty_database(name, first=kept.put_away)
    spare_databases[name] = kept


@pytest.fixture
def sqlite_url(tmp_path):
    """URL of a fresh SQLite file."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request):
    """URL of a fresh database: each test runs once on every database."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def seed():
    """Seed for `random.Random`, shown when the test fails."""
    value = int(os.environ.get("STATEJOBS_TEST_SEED") or secrets.randbits(32))
    print(f"repeat with STATEJOBS_TEST_SEED={value}")  # noqa: T201
    return value

"""The LISTEN connection, where descriptors and connections are scarce."""

import os
import random
import resource
import threading
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, func, make_url, select, text

from statejobs.store.engines.channel import wake_channel
from statejobs.store.engines.factory import make_listener
from statejobs.store.engines.fresh import fresh_connection
from statejobs.store.engines.postgres import PostgresListener


@contextmanager
def taken_descriptors(up_to):
    """Take every descriptor below *up_to*."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < up_to + 100:
        pytest.skip(f"this process may have {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, up_to + 100), hard))
    taken = []
    try:
        while not taken or taken[-1] < up_to:
            taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.postgres
def test_it_listens_above_descriptor_1023(postgres_url):
    engine = create_engine(postgres_url, pool_size=1, max_overflow=0)
    woken = threading.Semaphore(0)
    with taken_descriptors(1100):
        listener = PostgresListener(engine, woken.release, random.Random(0))
        listener.start()
        try:
            assert woken.acquire(timeout=30)  # it listens
            notify(engine)
            assert woken.acquire(timeout=30)
        finally:
            listener.stop()
    engine.dispose()


@pytest.mark.postgres
def test_it_takes_no_connection_of_a_pool_that_is_used_up(postgres_url):
    engine = create_engine(postgres_url, pool_size=1, max_overflow=0)
    woken = threading.Semaphore(0)
    with engine.connect():
        listener = make_listener(engine, "node", woken.release, random.Random(0))
        listener.start()
        try:
            assert woken.acquire(timeout=30)
        finally:
            listener.stop()
    engine.dispose()


HOSTILE = 'a"; CREATE TABLE pwned (i int); --'
NAMES = ["t" * 54, "é" * 31, HOSTILE, "a%b", "MiXed case"]


@pytest.mark.postgres
@pytest.mark.parametrize("name", NAMES)
def test_a_worker_is_woken_whatever_its_schema_is_called(postgres_url, name):
    quoted = '"' + name.replace('"', '""') + '"'
    engine = create_engine(postgres_url)
    event.listen(
        engine, "connect", lambda connection, _record: use_schema(connection, quoted)
    )
    woken = threading.Semaphore(0)
    listener = PostgresListener(engine, woken.release, random.Random(0))
    listener.start()
    try:
        assert woken.acquire(timeout=30)
        notify(engine)
        assert woken.acquire(timeout=30)
    finally:
        listener.stop()
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT to_regclass('pwned'), to_regclass('public.pwned')")
        )
        assert found.one() == (None, None)
    engine.dispose()


@pytest.fixture
def refused(postgres_url):
    """URL of somebody who may connect, and whom the server refuses what a listener asks."""
    engine, role = create_engine(postgres_url), f"refused_{uuid.uuid4().hex}"
    with engine.begin() as connection:
        connection.execute(text("REVOKE SELECT ON pg_settings FROM PUBLIC"))
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
    yield make_url(postgres_url).set(username=role)
    with engine.begin() as connection:
        connection.execute(text(f"DROP ROLE {role}"))
        connection.execute(text("GRANT SELECT ON pg_settings TO PUBLIC"))
    engine.dispose()


@pytest.mark.postgres
def test_a_listener_that_is_refused_keeps_no_connection(refused):
    engine, tries, made = create_engine(refused), threading.Semaphore(0), []

    @event.listens_for(engine, "connect")
    def _note(_connection, record):
        made.append(record.driver_connection)
        tries.release()

    listener = PostgresListener(engine, print, random.Random(0))
    listener.start()
    try:
        for _ in range(3):
            assert tries.acquire(timeout=30)
    finally:
        listener.stop()

    assert len(made) >= 3
    assert all(connection.closed for connection in made)


@pytest.mark.postgres
def test_a_connection_beside_the_pool_is_closed_whatever_happens_meanwhile(
    postgres_url,
):
    engine, made = create_engine(postgres_url), []

    @event.listens_for(engine, "detach")
    def _fail(connection, _record):
        made.append(connection)
        if len(made) == 1:
            raise ValueError("a listener of the user's")

    with pytest.raises(ValueError, match="a listener"), fresh_connection(engine):
        """It is not reached."""
    with pytest.raises(KeyError), fresh_connection(engine) as connection:
        made.append(connection)
        raise KeyError

    assert [connection.closed for connection in made] == [True] * 3
    engine.dispose()


@pytest.mark.postgres
def test_schemas_have_channels_of_their_own(postgres_url):
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        channels = set()
        for name in ("a", "b" * 63):
            connection.execute(text(f'CREATE SCHEMA "{name}"'))
            connection.execute(text(f'SET LOCAL search_path TO "{name}"'))
            channels.add(connection.scalar(select(wake_channel())))
    engine.dispose()

    assert len(channels) == 2
    assert max(map(len, channels)) <= 26


def test_a_listener_that_was_never_started_keeps_no_descriptor():
    before = len([*Path("/proc/self/fd").iterdir()])

    listeners = [
        PostgresListener(
            create_engine("postgresql+psycopg://"), print, random.Random(0)
        )
        for _ in range(10)
    ]
    for listener in listeners:
        listener.stop()

    assert len([*Path("/proc/self/fd").iterdir()]) == before


def use_schema(connection, quoted):
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
    connection.execute(f"SET search_path TO {quoted}")
    connection.commit()


def notify(engine):
    with engine.begin() as connection:
        connection.execute(select(func.pg_notify(wake_channel(), "")))

"""The LISTEN connection, where descriptors and connections are scarce."""

import os
import random
import resource
import threading
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import create_engine

from statejobs import configure_sqlite
from statejobs.store.factory import make_listener, wake_workers
from statejobs.store.postgres import PostgresListener
from statejobs.store.statements.enqueue import wake_channel


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


def test_a_hint_that_cannot_be_sent_for_want_of_a_descriptor_says_nothing(sqlite_url):
    """The transaction is committed already: an error would make its caller do it twice."""
    engine = configure_sqlite(create_engine(sqlite_url))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with closing(engine.raw_connection()):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            wake_workers(engine)
            listener = make_listener(engine, "node", lambda: None, random.Random(0))
            listener.start()  # finds its work by looking
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    listener.stop()
    engine.dispose()


def notify(engine):
    from sqlalchemy import func, select

    with engine.begin() as connection:
        connection.execute(select(func.pg_notify(wake_channel(), "")))

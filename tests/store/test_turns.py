"""Writers of one process at one SQLite file: in the order in which they come."""

import threading

import pytest

from statejobs.store.engines.factory import open_engine
from statejobs.store.engines.turns import Turns
from statejobs.store.schema import create_tables
from statejobs.store.store import Store
from tests.support.processes import eventually


class WriterError(Exception):
    """A writer failed."""


@pytest.fixture
def store(sqlite_url):
    engine = open_engine(sqlite_url)
    create_tables(engine)
    yield Store(engine)
    engine.dispose()


def begin(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def queue_up(turns, works):
    """Start each of *works* in a thread of its own, when the one before it waits."""
    threads = []
    for number, work in enumerate(works, start=1):
        threads.append(begin(work))
        eventually(lambda: turns.waiting == number)  # noqa: B023 - called in this round
    return threads


def test_writers_that_wait_for_a_file_get_it_in_their_order(store):
    got = []

    def write(number):
        with store.transaction():
            got.append(number)

    with store.transaction():
        threads = queue_up(store.turns, [lambda n=n: write(n) for n in range(8)])
    for thread in threads:
        thread.join()

    assert got == list(range(8))


def test_a_writer_that_fails_passes_its_turn_on(store):
    got = []

    def write():
        with store.transaction():
            got.append("written")

    with pytest.raises(WriterError), store.transaction():
        threads = queue_up(store.turns, [write])
        raise WriterError
    threads[0].join()

    assert got == ["written"]


def test_whoever_goes_on_without_a_turn_gives_nobody_the_turn_of_another():
    turns = Turns(patience=0)

    with turns.taken() as first:
        with turns.taken() as second:
            pass
        with turns.taken() as third:
            pass
    with turns.taken() as fourth:
        pass

    assert [first, second, third, fourth] == [True, False, False, True]

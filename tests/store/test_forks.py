"""A forked child makes connections of its own: servers preload the app and fork."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PRELUDE = """
import os, sys
from sqlalchemy import create_engine, func, select
from statejobs import Domain, StateJobs, configure_sqlite
from statejobs.store.tables import jobs as table
from tests.support.shop import Order

def own(url):
    engine = create_engine(url)
    return configure_sqlite(engine) if engine.dialect.name == "sqlite" else engine

app = StateJobs(own(sys.argv[1]) if sys.argv[2] == "theirs" else sys.argv[1],
                domains=[Domain("shop", resources=[Order])], queues={"payments": 4})

def submit(times):
    for _ in range(times):
        with app.session() as session:
            session.add(order := Order(total=1))
            order.submit()
            session.commit()

def count():
    counts = [select(func.count()).select_from(what) for what in (Order, table)]
    with app.session() as session:
        return tuple(map(session.scalar, counts))

def fork(*bodies):
    children = []
    for body in bodies:
        child = os.fork()
        if child == 0:
            try:
                body()
                code = 0
            except BaseException as error:
                print(type(error).__name__, error, flush=True)
                code = 1
            os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

app.create_all()
submit(1)
assert count() == (1, 1)
"""

FOUR_CHILDREN = """
assert fork(*[lambda: submit(50)] * 4) == [0] * 4
submit(1)
assert count() == (202, 202), count()
"""

GRANDCHILDREN = """
def body():
    submit(5)
    assert fork(lambda: submit(5)) == [0]
    submit(5)

assert fork(body, body) == [0] * 2
submit(1)
assert count() == (32, 32), count()
"""

DRAINS = """
assert fork(lambda: app.drain()) == [0]
assert app.queries.counts()["payments"] == {"completed": 1}
"""

BESIDE_A_WORKER = """
with app.running() as worker:
    while "completed" not in app.queries.counts()["payments"]:
        pass
    def body():
        assert not worker.is_running
        worker.stop()  # as the end of a `with` in a child does
        submit(5)
    assert fork(body) == [0]
    assert worker.is_running
    while app.queries.counts()["payments"] != {"completed": 6}:
        pass
    assert [row["id"] for row in app.queries.nodes()] == [worker.node_id]
"""

ENDS = """
import atexit
child = os.fork()
if child == 0:
    submit(5)
    sys.exit(0)  # the interpreter collects what it has, as that of gunicorn's workers does
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
submit(1)
assert count() == (7, 7), count()
"""


IN_A_TRANSACTION = """
import gc

def close(session):
    session.close()

def roll_back(session):
    try:
        session.rollback()
    except Exception as error:
        print(type(error).__name__)

def commit(session):
    try:
        session.commit()
    except Exception:
        return
    raise AssertionError("it has committed what is its parent's")

def write(session):
    try:
        session.add(Order(total=2))
        session.flush()
    except Exception:
        return
    raise AssertionError("it has written into the transaction of its parent")

held = []
for leave in (close, roll_back, commit, write, lambda session: held.clear()):
    before = count()
    session = app.session()
    session.add(order := Order(total=1))
    order.submit()
    session.flush()
    held[:] = [session]
    del session

    def body():
        leave(held[0])
        gc.collect()
        submit(1)

    assert fork(body) == [0]
    held[0].commit()
    assert count() == (before[0] + 2, before[1] + 2), (leave, before, count())
"""


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_a_child_leaves_the_open_transaction_of_its_parent_alone(postgres_url, whose):
    """Not on SQLite: while a transaction holds the file, a child cannot write beside it."""
    run(postgres_url, whose, IN_A_TRANSACTION)


@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize(
    "story",
    [FOUR_CHILDREN, GRANDCHILDREN, DRAINS, ENDS],
    ids=["four children", "grandchildren", "drains", "ends"],
)
def test_children_have_connections_of_their_own(database_url, whose, story):
    run(database_url, whose, story)


def test_a_child_of_a_worker_leaves_the_worker_alone(postgres_url):
    """Not on SQLite: while a thread of the worker uses the file, nobody may fork."""
    run(postgres_url, "ours", BESIDE_A_WORKER)


def run(url, whose, story):
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + story, url, whose],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )

    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr

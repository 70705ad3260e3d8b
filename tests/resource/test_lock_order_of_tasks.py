"""Whoever locks two jobs of a task that is `Unique` waits for nobody in a circle."""

import itertools
import threading
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from statejobs import Domain, StateJobs, Unique, task
from statejobs.errors import StateJobsError
from statejobs.runner.port import Ending
from statejobs.values.outcome import Complete
from tests.support.digests import HOUR
from tests.support.size import size

ROUNDS = size(2, 10)
BY_NUMBER = {"by": ["n"]}


@task("count.kept", unique=Unique(**BY_NUMBER))
def kept(n: int) -> None:
    """Keeps the job that there is."""


@task(
    "count.held",
    unique=Unique(**BY_NUMBER, period=HOUR, on_conflict="replace", replace=["args"]),
)
def held(n: int) -> None:
    """Replaces what waits, and keeps others out for an hour."""


@pytest.fixture(scope="module")
def postgres(postgres_server):
    """A database in which each write of a job takes a while; one for all pairs."""
    name = f"lock_order_{uuid.uuid4().hex}"
    postgres_server.create_database(name)
    app = StateJobs(
        postgres_server.url(name), domains=[Domain("d", tasks=[kept, held])]
    )
    app.create_all()
    with app.engine.begin() as connection:
        connection.execute(text(SLOW))
        connection.execute(text(BY_TRIGGER))
    yield app
    app.close()
    app.engine.dispose()
    postgres_server.drop_database(name)


SLOW = (
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END'"
)
BY_TRIGGER = (
    "CREATE TRIGGER slow BEFORE INSERT OR UPDATE ON statejobs_jobs "
    "FOR EACH ROW EXECUTE FUNCTION slow()"
)


def asks(app, send, numbers=(10, 2)):
    with app.session() as session:
        send.enqueue_many(session, [{"n": n} for n in numbers])
        session.commit()


def asks_in_the_other_order(app, send):
    asks(app, send, (2, 10, 2))


def completes(app, _send):
    runner = app.runner()
    claims = runner.claim("default", limit=5)
    _, left = runner.finisher.finish_many([Ending(c, Complete()) for c in claims])
    for ending in left:
        runner.finisher.finish(ending)


def cancels(app, send):
    app.select(key=send.key).cancel()


def edits(app, send):
    app.select(key=send.key, state=["queued"]).edit(priority=3)


def retries(app, send):
    app.select(key=send.key).retry()


def deletes(app, send):
    app.select(key=send.key, state=["cancelled", "completed"]).delete()


OPERATIONS = (
    asks,
    asks_in_the_other_order,
    completes,
    cancels,
    edits,
    retries,
    deletes,
)
PAIRS = [*itertools.combinations_with_replacement(OPERATIONS, 2)]


@pytest.mark.postgres
@pytest.mark.parametrize("send", [kept, held], ids=["kept", "held"])
@pytest.mark.parametrize(("one", "other"), PAIRS, ids=lambda given: given.__name__)
def test_two_that_lock_the_same_jobs_never_deadlock(postgres, send, one, other):
    with postgres.engine.begin() as connection:
        connection.execute(text("DELETE FROM statejobs_jobs"))
    asks(postgres, send)
    barrier, troubles = threading.Barrier(2), []
    threads = [
        threading.Thread(target=run, args=[postgres, act, send, barrier, troubles])
        for act in (one, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert troubles == []


def run(app, act, send, barrier, troubles):
    for _ in range(ROUNDS):
        barrier.wait(60)
        try:
            act(app, send)
        except (DBAPIError, StateJobsError) as error:
            troubles.append(f"{act.__name__}: {error}")

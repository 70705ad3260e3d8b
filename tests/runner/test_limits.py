"""A queue runs as many jobs at once as its limit says, in each process."""

import asyncio
import threading
from collections import Counter

import pytest

from statejobs import Domain, StateJobs, task
from tests.support.parcels import close_app
from tests.support.processes import DEADLINE, eventually

A_WHILE = 0.5  # seconds in which more would have begun
CRITICAL, SPARE = 3, 1
begun = []
"""Bodies that have begun, none of which ends before `may_end`."""
may_end = threading.Event()


@task("limit.pay", queue="payments")
def pay() -> None:
    begun.append("pay")
    may_end.wait(DEADLINE)


@task("limit.fetch", queue="fetches")
async def fetch() -> None:
    begun.append("fetch")
    await asyncio.to_thread(may_end.wait, DEADLINE)


@task("limit.tidy", queue="bulk")
def tidy() -> None:
    begun.append("tidy")
    may_end.wait(DEADLINE)


@pytest.fixture
def app(database_url):
    app = StateJobs(
        database_url,
        domains=[Domain("limits", tasks=[pay, fetch, tidy])],
        queues={"payments": CRITICAL, "fetches": CRITICAL, "bulk": SPARE},
    )
    app.create_all()
    begun.clear()
    may_end.clear()
    yield app
    may_end.set()
    close_app(app)


def test_no_queue_runs_more_at_once_than_its_limit(app):
    with app.session() as session:
        for one in (tidy, pay, fetch):
            one.enqueue_many(session, [{}] * 9)
        session.commit()
    full = {"pay": CRITICAL, "fetch": CRITICAL, "tidy": SPARE}

    with app.running():
        try:
            eventually(lambda: Counter(begun) >= Counter(full), lambda: f"{begun}")
            may_end.wait(A_WHILE)

            assert Counter(begun) == full
        finally:
            may_end.set()
        eventually(lambda: len(begun) == 27, lambda: f"{begun}")

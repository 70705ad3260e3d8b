"""An app for real workers, with leases of three seconds."""

import contextlib
from datetime import timedelta

from statejobs import Domain, StateJobs, WorkerSettings
from tests.support.deeds import LEASE
from tests.support.rounds import Call, Errand, Visit

SLOTS = 4


def make_app(database: str = "sqlite:///promises.db") -> StateJobs:
    """The app."""
    return StateJobs(
        database,
        domains=[Domain("promises", resources=[Errand, Call, Visit])],
        queues={"work": SLOTS, "calls": SLOTS},
        settings=WorkerSettings(
            lease=timedelta(seconds=LEASE),
            heartbeat=timedelta(seconds=1),
            rescue=timedelta(seconds=0.5),
            poll=timedelta(seconds=0.2),
            shutdown_grace=timedelta(seconds=10),
            timeout_grace=timedelta(seconds=0.5),
        ),
    )


@contextlib.contextmanager
def opened(url):
    """The app with its tables, closed at the end."""
    app = make_app(url)
    try:
        app.create_all()
        yield app
    finally:
        app.engine.dispose()

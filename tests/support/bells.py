"""Scheduled actions whose bodies do what a test says, and apps that ring them."""

from contextlib import contextmanager
from types import SimpleNamespace

from sqlalchemy import select, update

from statejobs import (
    AsyncJobContext,
    Domain,
    JobContext,
    StateJobs,
    WorkerSettings,
    scheduled_action,
)
from statejobs.store.tables import jobs, schedules, ticks
from tests.support.clock import ManualClock, manual_sources
from tests.support.ends import wrong_ends
from tests.support.parcels import BACKOFF, LEASE, close_app

script = SimpleNamespace()
"""What the bodies do: `script.ring = lambda ctx: …`; `reset()` forgets it."""


def _nothing(_ctx):
    """What a body does when the test does not care."""


def reset():
    """Let every body do nothing."""
    script.ring = script.strike = script.toll = _nothing


reset()

OPTIONS = {"max_attempts": 2, "backoff": BACKOFF}


@scheduled_action("bell.ring", cron="*/10 * * * *", **OPTIONS)
def ring(ctx: JobContext) -> None:
    """One at a time."""
    script.ring(ctx)


@scheduled_action("bell.strike", cron="@hourly", overlap="queue", catch_up="all")
def strike(ctx: JobContext) -> None:
    """Each tick has a job of its own, whenever it comes."""
    script.strike(ctx)


@scheduled_action("bell.toll", cron="0 8 * * *", catch_up="none")
async def toll(ctx: AsyncJobContext) -> None:
    """In time or never."""
    script.toll(ctx)


TOWER = Domain("tower", tasks=[ring, strike, toll])


@contextmanager
def tower(url, *, clock=None, domain=TOWER, prefix="", **options):
    """An app on *url* with its tables, on a clock that the test moves; closed at the end."""
    app = StateJobs(
        url,
        domains=[domain],
        settings=WorkerSettings(lease=LEASE),
        sources=manual_sources(clock or ManualClock(), prefix=prefix),
        **options,
    )
    try:
        app.create_all()
        yield app
        assert wrong_ends(app.engine) == []
    finally:
        close_app(app)
        reset()


def rows_of(app, table, key=None):
    """The rows of a table, those of *key*, in the order of their primary key."""
    found = select(table).order_by(*table.primary_key.columns)
    if key is not None:
        found = found.where(table.c.key == key)
    with app.engine.connect() as connection:
        return connection.execute(found).all()


def ticks_of(app, key):
    """The ticks of *key*: (instant, enqueued, skipped)."""
    return [(t.at, t.enqueued, t.skipped) for t in rows_of(app, ticks, key)]


def jobs_of(app, key):
    """The jobs of *key*, as rows."""
    return rows_of(app, jobs, key)


def schedule_of(app, key):
    """The row of the schedule of *key*."""
    (row,) = rows_of(app, schedules, key)
    return row


def write_schedule(app, key, **values):
    """Write into the row of a schedule, as other code would."""
    with app.engine.begin() as connection:
        connection.execute(
            update(schedules).where(schedules.c.key == key).values(**values)
        )

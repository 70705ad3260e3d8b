"""Tasks whose bodies do what a test says, and an app that runs them beside parcels."""

from contextlib import contextmanager
from datetime import date, timedelta
from types import SimpleNamespace

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    Domain,
    JobContext,
    StateJobs,
    WorkerSettings,
    task,
)
from tests.support.clock import ManualClock, manual_sources
from tests.support.ends import wrong_ends
from tests.support.kept_tables import make_all
from tests.support.parcels import BACKOFF, LEASE, Parcel, close_app


class Base(DeclarativeBase):
    """The user's base."""


class Line(Base):
    """What a body writes: to count how often."""

    __tablename__ = "lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


script = SimpleNamespace()
"""What the bodies do: `script.errand = lambda ctx, day, note: …`; `reset()` forgets it."""


def _nothing(*_args):
    """What a body does when the test does not care."""


async def _nothing_async(*_args):
    """As `_nothing`, for asyncio."""


def reset():
    """Let every body do nothing."""
    script.errand = script.plain = script.told = _nothing
    script.fetch = _nothing_async


reset()

OPTIONS = {"max_attempts": 3, "max_crashes": 2, "backoff": BACKOFF}


@task("errand.run", aliases=["errand.go"], tags=["home"], **OPTIONS)
def errand(ctx: JobContext, day: date, *, note: str = "none") -> str:
    """Run an errand."""
    script.errand(ctx, day, note)
    return f"{note} on {day}"


@errand.on_discard
def tell(session, reason, day, *, note="none"):
    script.told(session, reason, day, note)


@task("errand.plain", **OPTIONS)
def plain(number: int) -> int:
    """Takes no context."""
    script.plain(number)
    return number * 2


@task("errand.slow", timeout=timedelta(seconds=0.2), max_attempts=1)
def slow(ctx: JobContext) -> None:
    script.errand(ctx, None, None)


@task("errand.fetch", **OPTIONS)
async def fetch(ctx: AsyncJobContext, url: str) -> str:
    await script.fetch(ctx, url)
    return url


@task("errand.fetch_plain", **OPTIONS)
async def fetch_plain(url: str) -> None:
    await script.fetch(None, url)


HOME = Domain(
    "home", resources=[Parcel], tasks=[errand, plain, slow, fetch, fetch_plain]
)
DAY = date(2030, 1, 1)


@contextmanager
def household(url, *, clock=None, prefix="", settings=None, **options):
    """An app on *url* with its tables, on a clock that the test moves; closed at the end."""
    app = StateJobs(
        url,
        domains=[HOME],
        settings=settings
        or WorkerSettings(lease=LEASE, timeout_grace=timedelta(seconds=0.1)),
        sources=manual_sources(clock or ManualClock(), prefix=prefix),
        **options,
    )
    try:
        make_all(app, Base.metadata)
        yield app
        assert wrong_ends(app.engine) == []
    finally:
        close_app(app)


def ask(app, request=errand, *args, **kwargs):
    """Commit one job; return its id. `errand` gets a day."""
    if request is errand and not args and "day" not in kwargs:
        kwargs["day"] = DAY
    with app.session() as session:
        found = request.enqueue(session, *args, **kwargs)
        session.commit()
    return found.job_id


def job(app, job_id):
    """A job as committed."""
    return app.queries.job(job_id)


def lines(app):
    """What bodies wrote, as committed."""
    with app.session() as session:
        return list(session.scalars(select(Line.text).order_by(Line.id)))


def tried(app, job_id):
    """Attempts that did not complete: (attempt, outcome, error type)."""
    rows = app.queries.attempts(job_id)
    return [(row["attempt"], row["outcome"], row["error_type"]) for row in rows]


def make_app(database: str = "sqlite:///errands.db") -> StateJobs:
    """The app for the command line, on the real clock."""
    return StateJobs(database, domains=[HOME])

"""A task and a trigger that are `Unique` as a test says, and an app that runs them."""

from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from types import SimpleNamespace

from sqlalchemy import update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    Unique,
    state_column,
    task,
    transition,
)
from statejobs.store.tables import jobs
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import close_app

HOUR = timedelta(hours=1)
BY_CUSTOMER = {"by": ["customer"]}


class UserState(StrEnum):
    DRAFT = "draft"
    NEW = "new"
    ACTIVE = "active"
    GONE = "gone"


def digest_of(unique, **options):
    """A task that is *unique*; `task.script.run = lambda customer: …` says what it does."""
    script = SimpleNamespace(run=lambda _customer: None)

    @task("digest.send", unique=unique, **options)
    def send_digest(customer: int, items: list[int] = []) -> None:  # noqa: B006
        script.run(customer)

    send_digest.script = script
    return send_digest


def user_of(unique, **options):
    """A resource whose trigger `remind` is *unique*."""
    script = SimpleNamespace(run=lambda _user: None)

    class Base(DeclarativeBase): ...

    class User(StatefulResource, Base):
        __tablename__ = "users"

        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(default="")
        state: Mapped[UserState] = state_column(UserState, initial=UserState.DRAFT)

        remind = Trigger.on_demand("user.remind", unique=unique, **options)
        greet = Trigger.on_demand("user.greet")

        @remind.action(UserState.ACTIVE, UserState.ACTIVE)
        def remind_user(self, ctx: JobContext, text: str = "") -> None:
            script.run(self)

        @greet.action(UserState.NEW, UserState.ACTIVE)
        def greet_user(self, ctx: JobContext) -> None: ...

        @transition(UserState.DRAFT, UserState.ACTIVE, run_trigger=remind)
        def activate(self) -> None: ...

        @transition(UserState.ACTIVE, UserState.ACTIVE, run_trigger=remind)
        def nudge(self) -> None: ...

        @transition(UserState.DRAFT, UserState.NEW, run_trigger=greet)
        def welcome(self) -> None: ...

        @transition(UserState.ACTIVE, UserState.DRAFT)
        def rest(self) -> None: ...

    User.script = script
    return User


@contextmanager
def unique_app(url, *, tasks=(), resources=()):
    """An app on a clock that stands at noon, with its tables."""
    app = StateJobs(
        url,
        domains=[Domain("digests", tasks=tasks, resources=resources)],
        sources=manual_sources(ManualClock()),
    )
    app.create_all()
    for resource in resources:
        resource.metadata.create_all(app.engine)
    try:
        yield app
    finally:
        close_app(app)


@contextmanager
def digests(url, unique=None, **options):
    """Such an app with one task: yields both."""
    send = digest_of(unique or Unique(**BY_CUSTOMER), **options)
    with unique_app(url, tasks=[send]) as app:
        yield app, send


@contextmanager
def users(url, unique, **options):
    """Such an app with one resource: yields both."""
    user = user_of(unique, **options)
    with unique_app(url, resources=[user]) as app:
        yield app, user


def ask(app, send, *args, options=None, **kwargs):
    """Enqueue a task in a transaction of its own; returns the result."""
    with app.session() as session:
        asked = send.options(**options) if options else send
        result = asked.enqueue(session, *args, **kwargs)
        session.commit()
    return result


def set_job(app, job_id, **values):
    """Write *values* to a job, as a worker or a person might have."""
    with app.engine.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))


def stored(app):
    """All jobs, the oldest first."""
    return sorted(app.queries.jobs(limit=1_000_000), key=lambda job: job.id)

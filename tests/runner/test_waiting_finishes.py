"""A finish that waits for somebody's lock holds up no other finish of its process."""

import asyncio
import threading
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum

import pytest
from sqlalchemy import ForeignKey, create_engine, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    WorkerSettings,
    state_column,
    task,
)
from statejobs.store.tables import jobs
from tests.support.parcels import close_app
from tests.support.processes import DEADLINE, eventually

pytestmark = pytest.mark.postgres  # SQLite has one lock for everybody


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    NEW = "new"
    DONE = "done"
    FAILED = "failed"


class Shelf(Base):
    __tablename__ = "shelves"

    id: Mapped[int] = mapped_column(primary_key=True)


script = {}
"""Attributes that the action of a page sets, by its id."""
ready = threading.Event()
"""Whether bodies may go on."""


class Page(StatefulResource, Base):
    __tablename__ = "pages"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str | None] = mapped_column(unique=True)
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelves.id"))
    state: Mapped[S] = state_column(S, initial=S.NEW, final=(S.DONE,))

    publish = Trigger.on_demand("page.publish", queue="pages", max_attempts=1)

    @publish.action(S.NEW, S.DONE, failed=S.FAILED)
    def write(self, ctx: JobContext) -> None:
        assert ready.wait(DEADLINE)
        for name, value in script.get(self.id, {}).items():
            setattr(self, name, value)


class Mail(StatefulResource, Base):
    __tablename__ = "mails"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.NEW, final=(S.DONE,))

    send = Trigger.on_demand("mail.send", queue="mails", max_attempts=1)

    @send.action(S.NEW, S.DONE, failed=S.FAILED)
    async def deliver(self, ctx: AsyncJobContext) -> None:
        while not ready.is_set():  # noqa: ASYNC110 - tests set it from their thread
            await asyncio.sleep(0.02)
        raise ValueError("no such address")


@task("waiting.other", queue="other")
def other() -> None:
    assert ready.wait(DEADLINE)


LOCKS = {
    "unique index": (
        "INSERT INTO pages (slug, state, state_version, state_changed_at)"
        " VALUES ('one', 'new', 1, now())",
        {"slug": "one"},
    ),
    "foreign key": ("SELECT 1 FROM shelves WHERE id = 1 FOR UPDATE", {"shelf_id": 1}),
    "table": ("LOCK TABLE pages IN SHARE MODE", {"slug": "one"}),
}
"""What a user does in an open transaction, and what the action sets that meets it."""


@pytest.fixture(params=LOCKS.values(), ids=LOCKS)
def lock(request):
    return request.param


@contextmanager
def press(database):
    """An app on the real clock."""
    script.clear()
    ready.clear()
    opened = StateJobs(
        database,
        domains=[Domain("waits", resources=[Page, Mail], tasks=[other])],
        queues={"pages": 40, "mails": 40, "other": 10},
        settings=WorkerSettings(poll=timedelta(seconds=0.1)),
    )
    opened.create_all()
    with opened.session() as session:
        session.merge(Shelf(id=1))
        session.commit()
    yield opened
    ready.set()
    close_app(opened)


@pytest.fixture
def app(postgres_url):
    with press(postgres_url) as opened:
        yield opened


@contextmanager
def held(app, sql):
    """Let a user's transaction hold what *sql* takes."""
    with app.engine.connect() as connection:
        connection.execute(text(sql))
        yield
        connection.rollback()


def add(app, kind, number):
    """Commit records with a job each; return their keys."""
    with app.session() as session:
        records = [kind() for _ in range(number)]
        session.add_all(records)
        session.flush()
        action = kind.write if kind is Page else kind.deliver
        action.enqueue_many(session, records)
        session.commit()
        return [record.id for record in records]


def add_tasks(app, number):
    with app.session() as session:
        other.enqueue_many(session, [{}] * number)
        session.commit()


def ended(app, queue, state="completed"):
    """How many jobs of *queue* are in *state*."""
    with app.session() as session:
        wanted = (jobs.c.queue == queue, jobs.c.state == state)
        return session.scalar(select(func.count()).select_from(jobs).where(*wanted))


def test_a_lock_that_one_finish_waits_for_holds_up_no_other_queue(app, lock):
    sql, changes = lock
    (key,) = add(app, Page, 1)
    script[key] = changes
    add_tasks(app, 200)

    with app.running():
        eventually(lambda: ended(app, "pages", "processing") == 1)
        with held(app, sql):
            ready.set()
            eventually(lambda: ended(app, "other") == 200)
            assert ended(app, "pages", "processing") == 1
        eventually(lambda: ended(app, "pages") == 1)


def test_a_lock_that_one_finish_waits_for_holds_up_no_neighbour_in_its_batch(app):
    sql, changes = LOCKS["unique index"]
    keys = add(app, Page, 40)
    script[keys[17]] = changes

    with app.running():
        eventually(lambda: ended(app, "pages", "processing") == 40)
        with held(app, sql):
            ready.set()
            eventually(lambda: ended(app, "pages") == 39)
            assert ended(app, "pages", "processing") == 1
        eventually(lambda: ended(app, "pages") == 40)


def test_more_waiting_finishes_than_connections_hold_up_nobody(app):
    sql, changes = LOCKS["foreign key"]
    keys = add(app, Page, 200)
    script.update(dict.fromkeys(keys[::2], changes))
    add_tasks(app, 50)

    with app.running():
        eventually(lambda: ended(app, "pages", "processing") >= 40)
        with held(app, sql):
            ready.set()
            eventually(lambda: ended(app, "other") == 50)
            eventually(lambda: ended(app, "pages") == 100)
        eventually(lambda: ended(app, "pages") == 200)


def test_finishes_that_wait_leave_a_connection_where_the_pool_is_used_up(postgres_url):
    sql, changes = LOCKS["foreign key"]
    engine = create_engine(postgres_url, pool_size=3, max_overflow=0)
    with press(postgres_url) as user, press(engine) as app:
        script.update(dict.fromkeys(add(user, Page, 40), changes))
        add_tasks(user, 50)
        with app.running():
            eventually(lambda: ended(user, "pages", "processing") == 40)
            with held(user, sql), engine.connect(), engine.connect(), engine.connect():
                ready.set()
                eventually(lambda: ended(user, "other") == 50)
            eventually(lambda: ended(user, "pages") == 40)


def test_ends_of_async_attempts_that_wait_for_locks_hold_up_no_other(app):
    keys = add(app, Mail, 40)
    first = ", ".join(map(str, keys[:20]))

    with app.running():
        eventually(lambda: ended(app, "mails", "processing") == 40)
        with held(app, f"SELECT 1 FROM mails WHERE id IN ({first}) FOR UPDATE"):
            ready.set()
            eventually(lambda: ended(app, "mails", "discarded") == 20)
        eventually(lambda: ended(app, "mails", "discarded") == 40)

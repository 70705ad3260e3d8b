"""What people pass first is served, or refused in one clear line."""

import asyncio
import importlib.util
from enum import StrEnum

import pytest
from pydantic import PostgresDsn
from sqlalchemy import true
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    ConfigurationError,
    Domain,
    JobContext,
    NotFoundError,
    StatefulResource,
    StateJobs,
    Trigger,
    configure_sqlite,
    state_column,
    task,
    transition,
)
from statejobs.store.engines.factory import async_url


@task("first.tidy")
def tidy():
    pass


@task("first.fetch")
async def fetch():
    pass


class Base(DeclarativeBase): ...


class S(StrEnum):
    OPEN = "open"
    POSTED = "posted"
    SENT = "sent"


class Letter(StatefulResource, Base):
    __tablename__ = "letters"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.OPEN)

    send = Trigger.on_demand("letter.send")

    @transition(S.OPEN, S.POSTED, run_trigger=send)
    def post(self): ...

    @send.action(S.POSTED, S.SENT)
    def carry(self, ctx: JobContext): ...


def make_app(database, *tasks):
    return StateJobs(database, domains=[Domain("first", tasks=tasks or [tidy])])


@pytest.fixture
def app(database_url):
    with make_app(database_url) as app:
        app.create_all()
        yield app


@pytest.fixture
def async_engine(app):
    engine = create_async_engine(async_url(app.engine))
    yield engine
    asyncio.run(engine.dispose())


@pytest.mark.parametrize("attribute", [None, "sync_engine"])
def test_an_asynchronous_engine_is_refused_with_what_to_pass(async_engine, attribute):
    given = getattr(async_engine, attribute) if attribute else async_engine

    with pytest.raises(
        ConfigurationError, match="fix: pass the URL instead: sqlite:"
    ) as caught:
        make_app(given)

    assert "async_session(engine)" in str(caught.value)


def test_configure_sqlite_says_what_to_give_of_an_async_engine(sqlite_url):
    engine = create_async_engine(sqlite_url.replace("sqlite:", "sqlite+aiosqlite:"))

    with pytest.raises(ConfigurationError, match="give its sync_engine"):
        configure_sqlite(engine)


def test_a_dsn_of_pydantic_is_served(postgres_url):
    with make_app(PostgresDsn(postgres_url)) as app:
        app.create_all()

        assert app.queries.counts() == {}


@pytest.mark.parametrize("database", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused_with_what_to_use_in_tests(database):
    with pytest.raises(ConfigurationError, match="tmp_path, or under /dev/shm"):
        make_app(database)


def test_jobs_can_be_asked_for_by_the_text_of_a_state(app):
    with app.session() as session:
        tidy.enqueue(session)
        session.commit()

    assert [job.key for job in app.queries.jobs(states=["queued"])] == ["first.tidy"]
    with pytest.raises(NotFoundError, match="did you mean 'queued'"):
        app.queries.jobs(states=["qeued"])


@pytest.mark.parametrize(
    ("door", "instead"),
    [
        (tidy.enqueue, "await ….enqueue_async"),
        (lambda session: tidy.enqueue_many(session, [{}]), "await session.run_sync"),
        (lambda session: Letter.post.bulk(session, where=true()), "await ….bulk_async"),
        (
            lambda session: Letter.carry.enqueue(session, Letter()),
            "await ….enqueue_async",
        ),
        (
            lambda session: Letter.carry.enqueue_many(session, []),
            "await session.run_sync",
        ),
    ],
    ids=["task", "tasks", "bulk", "action", "actions"],
)
def test_an_async_session_is_refused_with_the_call_that_works(
    async_engine, door, instead
):
    with pytest.raises(
        ConfigurationError, match="AsyncSession, not a Session"
    ) as caught:
        door(AsyncSession(async_engine))

    assert instead in str(caught.value)


@pytest.mark.parametrize("start", ["check_tables", "drain", "step", "worker"])
def test_async_work_without_its_extra_is_refused_at_the_start(
    database_url, monkeypatch, start
):
    find = importlib.util.find_spec
    hidden = {"greenlet", "aiosqlite"}
    monkeypatch.setattr(
        "statejobs.store.engines.factory.find_spec",
        lambda name: None if name in hidden else find(name),
    )
    with make_app(database_url, tidy, fetch) as app:
        app.create_all()
        with app.session() as session:
            fetch.enqueue(session)
            session.commit()

        with pytest.raises(
            ConfigurationError, match=r"pip install 'statejobs\[async\]'"
        ):
            getattr(app, start)()

        assert app.queries.job(1).state == "queued"


def test_without_async_work_nothing_is_missed(database_url, monkeypatch):
    monkeypatch.setattr("statejobs.store.engines.factory.find_spec", lambda _name: None)
    with make_app(database_url) as app:
        app.create_all()
        app.check_tables()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (
            ModuleNotFoundError("No module", name="psycopg"),
            "the module psycopg is not installed",
        ),
        (
            ImportError("no pq wrapper available.\nAttempts made: …"),
            "no pq wrapper available",
        ),
    ],
)
def test_a_driver_that_cannot_be_imported_is_told_with_its_extra(
    monkeypatch, error, why
):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr("statejobs.store.engines.factory.create_engine", fail)

    with pytest.raises(ConfigurationError, match=r"statejobs\[postgres\]") as caught:
        make_app("postgresql://host/name")

    assert why in str(caught.value)

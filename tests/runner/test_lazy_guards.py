"""Guards of what is `async def` may touch relationships that are not loaded yet."""

import asyncio
from datetime import UTC, datetime
from enum import StrEnum

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from statejobs import (
    AsyncJobContext,
    Domain,
    StatefulResource,
    StateJobs,
    TransitionRefusedError,
    Trigger,
    configure_sqlite,
    state_column,
    transition,
)
from statejobs.store.engines.factory import async_url

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Base(DeclarativeBase): ...


class S(StrEnum):
    OPEN = "open"
    RUNNING = "running"
    SENT = "sent"
    FAILED = "failed"


class Page(Base):
    __tablename__ = "pages"

    id: Mapped[int] = mapped_column(primary_key=True)
    letter_id: Mapped[int] = mapped_column(ForeignKey("letters.id"))


class Letter(StatefulResource, Base):
    __tablename__ = "letters"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    pages: Mapped[list[Page]] = relationship(cascade="all, delete-orphan")
    state: Mapped[S] = state_column(S, initial=S.OPEN)

    send = Trigger.on_demand("letter.send", max_attempts=1)
    stamp = Trigger.on_demand("letter.stamp", max_attempts=1)
    burn = Trigger.on_demand("letter.burn", max_attempts=1)

    def has_pages(self) -> bool:
        """It has no pages."""
        return len(self.pages) > 0

    @transition(S.OPEN, S.OPEN, guard=has_pages)
    async def check(self) -> None: ...

    @transition(S.OPEN, S.SENT)
    async def save_and_go(self, session: AsyncSession) -> None:
        self.text = "saved"
        await session.commit()

    @send.action(S.OPEN, S.SENT, during=S.RUNNING, failed=S.FAILED, guard=has_pages)
    async def carry(self, ctx: AsyncJobContext) -> None:
        self.text = "carried"

    @stamp.action(S.OPEN, S.OPEN, guard=has_pages, atomic=True)
    async def put_stamp(self, ctx: AsyncJobContext) -> None:
        self.text = "stamped"

    @burn.action(S.OPEN, deletes=True, guard=has_pages)
    async def throw_away(self, ctx: AsyncJobContext) -> None: ...


FORMS = [Letter.carry, Letter.put_stamp, Letter.throw_away]


@pytest.fixture
def app(database_url):
    with StateJobs(database_url, domains=[Domain("mail", resources=[Letter])]) as app:
        app.create_all()
        Base.metadata.create_all(app.engine)
        yield app


@pytest.fixture
def run_async(app):
    """Run a function that takes the letter of a key, and its AsyncSession."""

    def run(use, key):
        async def main():
            opened = create_async_engine(async_url(app.engine))
            if app.engine.dialect.name == "sqlite":
                configure_sqlite(opened.sync_engine)
            try:
                async with AsyncSession(
                    opened
                ) as session:  # it expires what it commits
                    return await use(session, await session.get_one(Letter, key))
            finally:
                await opened.dispose()

        return asyncio.run(main())

    return run


def new_letter(app, pages=1):
    with app.session() as session:
        letter = Letter(pages=[Page() for _ in range(pages)])
        session.add(letter)
        session.commit()
        return letter.id


def ask(app, action, key):
    with app.session() as session:
        action.enqueue(session, session.get_one(Letter, key))
        session.commit()


@pytest.mark.parametrize("action", FORMS, ids=lambda action: action.spec.name)
def test_the_guard_of_an_async_job_loads_what_it_asks(app, action):
    ask(app, action, new_letter(app))

    assert app.drain(raise_errors=True).counts == {"complete": 1}


@pytest.mark.parametrize("action", FORMS, ids=lambda action: action.spec.name)
def test_such_a_guard_may_say_no(app, action):
    ask(app, action, new_letter(app, pages=0))

    app.drain(raise_errors=True)

    (job,) = app.queries.jobs()
    assert (job.state, job.reason) == ("cancelled", "stale: It has no pages.")


@pytest.mark.parametrize("name", ["carry", "put_stamp", "throw_away"])
def test_an_async_action_that_is_called_loads_for_its_guard(app, run_async, name):
    key = new_letter(app)
    ask(app, getattr(Letter, name), key)
    (job,) = app.queries.jobs()

    async def call(session, letter):
        ctx = AsyncJobContext(session=session, job=job, now=NOW)
        await getattr(letter, name)(ctx)
        await session.commit()

    run_async(call, key)

    last = app.queries.transitions("Letter", str(key))[-1]
    assert last["name"] == f"{name}.complete"


def test_an_async_transition_loads_for_its_guard(app, run_async):
    async def check(session, letter):
        await letter.check()
        await session.commit()

    run_async(check, new_letter(app))

    with pytest.raises(TransitionRefusedError, match="It has no pages"):
        run_async(check, new_letter(app, pages=0))


def test_an_async_transition_whose_body_commits_loads_its_record_again(app, run_async):
    async def go(session, letter):
        await letter.save_and_go(session)
        await session.commit()
        await session.refresh(letter)
        return letter.state

    assert run_async(go, new_letter(app)) is S.SENT

"""A book whose guards and bodies touch its leaves, which are loaded when they are asked for."""

import asyncio
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum

from sqlalchemy import ForeignKey
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from statejobs import (
    AsyncJobContext,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    configure_sqlite,
    state_column,
    transition,
)
from statejobs.store.engines.factory import async_url


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    OPEN = "open"
    RUNNING = "running"
    SENT = "sent"
    LOST = "lost"


class Leaf(Base):
    __tablename__ = "leaves"

    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("books.id"))


class Book(StatefulResource, Base):
    """Some of its bodies load what they touch, and some cannot."""

    __tablename__ = "books"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    leaves: Mapped[list[Leaf]] = relationship(cascade="all, delete-orphan")
    state: Mapped[S] = state_column(S, initial=S.OPEN)

    send = Trigger.on_demand("book.send", max_attempts=1)
    read = Trigger.on_demand("book.read", max_attempts=1)
    weigh = Trigger.on_demand("book.weigh", max_attempts=1)
    stamp = Trigger.on_demand("book.stamp", max_attempts=1)
    burn = Trigger.on_demand("book.burn", max_attempts=1)

    def has_leaves(self) -> bool:
        """It has no leaves."""
        return len(self.leaves) > 0

    @transition(S.OPEN, S.SENT, guard=has_leaves)
    def post(self, to: str = "") -> None: ...

    @transition(S.OPEN, S.OPEN)
    def count(self) -> None:
        len(self.leaves)

    @transition(S.OPEN, S.OPEN)
    async def count_later(self) -> None:
        len(self.leaves)

    @transition(S.OPEN, S.OPEN, guard=has_leaves)
    async def check(self) -> None: ...

    @transition(S.OPEN, S.SENT)
    async def save_and_go(self, session: AsyncSession) -> None:
        self.text = "saved"
        await session.commit()

    @transition(S.SENT, S.LOST)
    def lose(self) -> None: ...

    @transition(S.SENT, S.LOST)
    async def lose_later(self) -> None: ...

    @send.action(S.OPEN, S.SENT, during=S.RUNNING, failed=S.LOST, guard=has_leaves)
    async def carry(self, ctx: AsyncJobContext) -> None:
        self.text = "carried"

    @read.action(S.OPEN, S.SENT)
    async def read_aloud(self, ctx: AsyncJobContext) -> None:
        len(self.leaves)

    @weigh.action(S.OPEN, S.SENT, guard=has_leaves)
    def put_on_scale(self, ctx: JobContext) -> None: ...

    @stamp.action(S.OPEN, S.OPEN, guard=has_leaves, atomic=True)
    async def put_stamp(self, ctx: AsyncJobContext) -> None:
        self.text = "stamped"

    @burn.action(S.OPEN, deletes=True, guard=has_leaves)
    async def throw_away(self, ctx: AsyncJobContext) -> None: ...


@contextmanager
def library(url, *tasks):
    """An app on *url* with its tables, closed at the end."""
    domain = Domain("library", resources=[Book], tasks=tasks)
    with StateJobs(url, domains=[domain]) as app:
        app.create_all()
        yield app


def new_book(app, leaves=1):
    """Commit a book; return its key."""
    with app.session() as session:
        session.add(book := Book(leaves=[Leaf() for _ in range(leaves)]))
        session.commit()
        return book.id


def ask(app, action, key):
    """Commit a job of *action* for a committed book."""
    with app.session() as session:
        action.enqueue(session, session.get_one(Book, key))
        session.commit()


def with_book(app, key, use):
    """Run `await use(session, book)` with an AsyncSession, which expires what it commits."""

    async def main():
        async with _async_session(app) as session:
            return await use(session, await session.get_one(Book, key))

    return asyncio.run(main())


@asynccontextmanager
async def _async_session(app):
    engine = create_async_engine(async_url(app.engine))
    if app.engine.dialect.name == "sqlite":
        configure_sqlite(engine.sync_engine)
    try:
        async with AsyncSession(engine) as session:
            yield session
    finally:
        await engine.dispose()

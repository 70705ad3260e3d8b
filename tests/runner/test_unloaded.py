"""What an AsyncSession cannot load is told by name, with the reason and the way that works."""

import gc

import pytest
from sqlalchemy.exc import SQLAlchemyError

from statejobs import AsyncJobContext, TransitionRefusedError, task
from statejobs.values.clock import SystemClock
from tests.support.books import Book, S, library, new_book, with_book


@task("books.read")
async def read(ctx: AsyncJobContext, key: int) -> None:
    book = await ctx.session.get_one(Book, key)
    len(book.leaves)


pytestmark = pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
WHY = "Under an AsyncSession only code that SQLAlchemy called may wait for the database"
LEAVES = "touched Book.leaves, a relationship that is not loaded"
EXPIRED = "which is not loaded (a commit expires what its session holds)"
LOAD = 'await session.refresh(book, ["leaves"])'


@pytest.fixture(autouse=True)
def _let_go_of_what_was_not_awaited():
    gc.disable()  # what is let go of in the middle of a test warns of it there
    try:
        yield
    finally:
        gc.enable()
        gc.collect(0)  # all that is younger than the test; here, where nobody minds


@pytest.fixture
def app(database_url):
    with library(database_url, read) as opened:
        yield opened


@pytest.fixture
def with_new_book(app):
    """Run an async function with an AsyncSession that expires, and a stored book."""
    return lambda use: with_book(app, new_book(app), use)


def told(error):
    """What was added to an error for people."""
    return "\n".join(error.__notes__)


CALLS = {
    "post()": lambda book: book.post(),
    "post(…)": lambda book: book.post("Ada"),
    "post.can()": lambda book: book.post.can(),
    "post.why_not()": lambda book: book.post.why_not(),
    "available_transitions()": lambda book: book.available_transitions(),
    "put_on_scale(ctx)": lambda book: book.put_on_scale(None),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_guard_that_cannot_load_is_named(with_new_book, call):
    async def use(_session, book):
        with pytest.raises(SQLAlchemyError) as caught:
            CALLS[call](book)
        return caught.value, book.id

    error, key = with_new_book(use)

    words = told(error)
    assert f"statejobs: Book {key}: guard 'has_leaves'" in words
    for part in (LEAVES, WHY, LOAD, f"await session.run_sync(lambda _: book.{call})"):
        assert part in words


@pytest.mark.parametrize("call", CALLS)
def test_a_state_that_a_commit_expired_is_named(with_new_book, call):
    async def use(session, book):
        await session.commit()
        with pytest.raises(SQLAlchemyError) as caught:
            CALLS[call](book)
        return caught.value

    words = told(with_new_book(use))

    assert f"touched Book.state, {EXPIRED}" in words
    assert "await session.refresh(book);" in words
    assert f"await session.run_sync(lambda _: book.{call})" in words


def test_a_body_that_cannot_load_is_named_and_nothing_moves(with_new_book):
    async def use(_session, book):
        with pytest.raises(SQLAlchemyError) as caught:
            book.count()
        return caught.value, book.state

    error, state = with_new_book(use)

    assert f"'count' {LEAVES}" in told(error)
    assert state is S.OPEN


@pytest.mark.parametrize(
    ("name", "fire"),
    [
        ("count_later", lambda book, _ctx: book.count_later()),
        ("read_aloud", lambda book, ctx: book.read_aloud(ctx)),
    ],
)
def test_an_async_body_is_told_what_to_await(with_new_book, name, fire):
    async def use(session, book):
        ctx = AsyncJobContext(session=session, job=None, now=SystemClock().now())
        with pytest.raises(SQLAlchemyError) as caught:
            await fire(book, ctx)
        return caught.value

    words = told(with_new_book(use))

    assert f"the body of {name!r} {LEAVES}" in words
    assert "await self.awaitable_attrs.leaves with AsyncAttrs" in words
    assert 'session.refresh(self, ["leaves"])' in words


def test_a_job_keeps_what_it_was_told(app):
    key = new_book(app)
    with app.session() as session:
        Book.read_aloud.enqueue(session, session.get_one(Book, key))
        read.enqueue(session, key=key)
        session.commit()

    app.drain()

    jobs = {job.key: job for job in app.queries.jobs()}
    (read_aloud,) = app.queries.attempts(jobs["book.read"].id)
    assert f"the body of 'read_aloud' {LEAVES}" in read_aloud["message"]
    assert 'await ctx.session.refresh(self, ["leaves"])' in read_aloud["message"]
    (attempt,) = app.queries.attempts(jobs["books.read"].id)
    assert f"the body of 'read' {LEAVES}" in attempt["message"]


def test_a_guard_of_another_transition_does_not_hide_a_refusal(with_new_book):
    async def use(_session, book):
        with pytest.raises(TransitionRefusedError, match="it is in 'open'"):
            book.lose()
        with pytest.raises(TransitionRefusedError, match="it is in 'open'") as caught:
            await book.lose_later()
        return caught.value.available

    assert "post" in with_new_book(use)


def test_what_the_note_says_works(with_new_book):
    async def use(session, book):
        await session.commit()
        assert await session.run_sync(lambda _: book.post.can())
        await session.commit()
        await session.refresh(book)
        await session.refresh(book, ["leaves"])
        book.post()
        await session.commit()

    with_new_book(use)


def test_other_errors_of_a_database_get_no_note(app):
    with app.session() as session:
        book = session.get_one(Book, new_book(app))
        session.expire(book)
        session.expunge(book)

        with pytest.raises(SQLAlchemyError) as caught:
            book.post()

    assert not getattr(caught.value, "__notes__", ())

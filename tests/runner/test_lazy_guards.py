"""Guards of what is `async def` may touch relationships that are not loaded yet."""

from datetime import UTC, datetime

import pytest

from statejobs import AsyncJobContext, TransitionRefusedError
from tests.support.books import Book, S, ask, library, new_book, with_book

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FORMS = [Book.carry, Book.put_stamp, Book.throw_away]


@pytest.fixture
def app(database_url):
    with library(database_url) as opened:
        yield opened


@pytest.mark.parametrize("action", FORMS, ids=lambda action: action.spec.name)
def test_the_guard_of_an_async_job_loads_what_it_asks(app, action):
    ask(app, action, new_book(app))

    assert app.drain(raise_errors=True).counts == {"complete": 1}


@pytest.mark.parametrize("action", FORMS, ids=lambda action: action.spec.name)
def test_such_a_guard_may_say_no(app, action):
    ask(app, action, new_book(app, leaves=0))

    app.drain(raise_errors=True)

    (job,) = app.queries.jobs()
    assert (job.state, job.reason) == ("cancelled", "stale: It has no leaves.")


@pytest.mark.parametrize("name", ["carry", "put_stamp", "throw_away"])
def test_an_async_action_that_is_called_loads_for_its_guard(app, name):
    key = new_book(app)
    ask(app, getattr(Book, name), key)
    (job,) = app.queries.jobs()

    async def call(session, book):
        ctx = AsyncJobContext(session=session, job=job, now=NOW)
        await getattr(book, name)(ctx)
        await session.commit()

    with_book(app, key, call)

    last = app.queries.transitions("Book", str(key))[-1]
    assert last["name"] == f"{name}.complete"


def test_an_async_transition_loads_for_its_guard(app):
    async def check(session, book):
        await book.check()
        await session.commit()

    with_book(app, new_book(app), check)

    with pytest.raises(TransitionRefusedError, match="It has no leaves"):
        with_book(app, new_book(app, leaves=0), check)


def test_an_async_transition_whose_body_commits_loads_its_record_again(app):
    async def go(session, book):
        await book.save_and_go(session)
        await session.commit()
        await session.refresh(book)
        return book.state

    assert with_book(app, new_book(app), go) is S.SENT

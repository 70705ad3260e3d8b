"""What an action writes to its record after it took it out of its session fails the attempt."""

import itertools

import pytest

from tests.support.forms import FORMS, Board, office, script
from tests.support.parcels import attempts_of, enqueue, job_of, load, state_of

numbers = itertools.count(2)  # of boards; there is one


@pytest.fixture
def app(database_url):
    with office(database_url) as opened:
        yield opened


@pytest.fixture(params=FORMS, ids=[kind.__name__ for kind in FORMS])
def kind(request):
    return request.param


def expunge_all(session, _record):
    session.expunge_all()


def expunge(session, record):
    session.expunge(record)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("take_out", [expunge_all, expunge])
def test_what_would_be_lost_fails_the_attempt(app, kind, take_out, number):
    def body(records, session, _ctx):
        session.add(Board(id=next(numbers)))
        session.flush()
        take_out(session, records[0])
        records[0].n = 5
        session.add(Board(id=next(numbers)))

    script.body = body
    keys = enqueue(app, kind, "act", number)

    app.drain()

    for key in keys:
        (attempt,) = app.queries.attempts(job_of(app, kind, key).id)
        assert attempt["outcome"] == "failed"
        assert (
            "wrote n after it had taken the record out of ctx.session"
            in attempt["message"]
        )
        assert state_of(app, kind, key) == "new"
        assert load(app, kind, key).n == 0


def write_before(session, record):
    record.n = 5
    session.flush()
    session.expunge_all()


def bring_back(session, record):
    session.expunge_all()
    record.n = 5
    session.add(record)


def merge(session, record):
    session.expunge_all()
    record.n = 5
    session.merge(record)


def write_the_same(session, record):
    record.n = 5
    session.flush()
    session.expunge_all()
    record.n = 5


@pytest.mark.parametrize("write", [write_before, bring_back, merge, write_the_same])
def test_what_is_not_lost_is_kept(app, kind, write):
    def body(records, session, _ctx):
        session.add(Board(id=next(numbers)))
        session.flush()
        write(session, records[0])
        session.add(Board(id=next(numbers)))

    script.body = body
    (key,) = enqueue(app, kind, "act")

    assert app.drain().counts == {"complete": 1}
    assert load(app, kind, key).n == 5


def test_one_that_wrote_nothing_else_keeps_it(app, kind):
    """Nothing is flushed then: its columns are written with its move."""

    def body(records, session, _ctx):
        session.expunge_all()
        records[0].n = 5

    script.body = body
    (key,) = enqueue(app, kind, "act")

    counts = app.drain().counts

    assert (counts, load(app, kind, key).n) in [({"complete": 1}, 5), ({"fail": 1}, 0)]
    assert len(attempts_of(app, kind, key)) == counts.get("fail", 0)

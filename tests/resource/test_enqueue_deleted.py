"""A record that is deleted takes no job, and enqueueing takes no delete back."""

import pytest
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from statejobs import TransitionRefusedError
from tests.resource.support import statements_on
from tests.support.carts import Base, Cart, Line
from tests.support.shop import read_jobs, shop_engine


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


@pytest.fixture
def line(session):
    session.add(Cart(id=1, lines=[Line(id=1)]))
    session.commit()
    return session.get(Line, (1, "a"))


def stored(session):
    return list(session.scalars(select(Line.id)))


def one(session, line):
    return Line.run.enqueue(session, line)


def many(session, line):
    return Line.run.enqueue_many(session, [line])


WAYS = pytest.mark.parametrize("enqueue", [one, many])


@WAYS
def test_a_record_that_is_being_deleted_takes_no_job(engine, session, line, enqueue):
    session.delete(line)

    with pytest.raises(
        TransitionRefusedError, match="cannot 'run': it is deleted in this session"
    ):
        enqueue(session, line)
    session.commit()

    assert stored(session) == []
    assert read_jobs(engine) == []


@WAYS
def test_nor_does_one_that_was_deleted(engine, session, line, enqueue):
    session.delete(line)
    session.flush()
    with pytest.raises(TransitionRefusedError, match="it is deleted"):
        enqueue(session, line)
    session.commit()
    with pytest.raises(TransitionRefusedError, match="it is deleted"):
        enqueue(session, line)

    assert read_jobs(engine) == []


@WAYS
def test_nor_does_an_orphan(engine, session, line, enqueue):
    cart = session.get(Cart, 1)
    cart.lines.clear()

    with pytest.raises(
        TransitionRefusedError, match="this flush deleted it, as an orphan"
    ):
        enqueue(session, line)
    session.commit()

    assert stored(session) == []
    assert read_jobs(engine) == []


@WAYS
def test_nor_does_a_detached_record_whose_row_is_gone(engine, session, line, enqueue):
    session.refresh(line)
    session.expunge(line)
    session.execute(delete(Line))
    session.commit()

    with (
        Session(engine) as other,
        pytest.raises(TransitionRefusedError, match="its row is gone"),
    ):
        enqueue(other, line)

    assert read_jobs(engine) == []


def test_a_detached_record_that_has_its_row_is_looked_for_once(engine, session, line):
    session.add(other := Line(id=2, cart_id=1))
    session.commit()
    for record in (line, other):
        session.refresh(record)
    session.expunge_all()

    with statements_on(engine) as sent:
        Line.run.enqueue_many(session, [line, other])
        assert sent("SELECT lines.id, lines.part") == 1
    session.commit()

    assert [job.state for job in read_jobs(engine)] == ["queued", "queued"]


def test_a_record_of_the_session_is_not_looked_for(engine, session, line):
    session.refresh(line)
    with statements_on(engine) as sent:
        Line.run.enqueue(session, line)
        assert sent("SELECT lines.id, lines.part FROM") == 0

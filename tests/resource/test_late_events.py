"""A flush writes each step, or refuses it, also where its events come last."""

import pytest
from sqlalchemy import event

from statejobs import StateJobsError
from tests.resource.support import Step
from tests.support.carts import Base, Cart, Line, key_text
from tests.support.shop import read_history, read_jobs, shop_engine


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


def test_an_orphan_that_moved_leaves_no_job_and_no_move(engine, session):
    session.add(cart := Cart(id=1, lines=[Line(id=1), Line(id=2)]))
    session.commit()
    for line in cart.lines:
        line.submit()
    del cart.lines[0]
    session.commit()

    assert [(job.record_id, job.state) for job in read_jobs(engine)] == [
        (key_text(2), "queued")
    ]
    assert read_history(engine, key_text(1)) == [("create", None, "new")]


def test_an_orphan_takes_its_waiting_job_along(engine, session):
    session.add(cart := Cart(id=1, lines=[Line(id=1)]))
    cart.lines[0].submit()
    session.commit()
    cart.lines.clear()
    session.commit()

    assert [job.state for job in read_jobs(engine)] == ["cancelled"]


def test_an_orphan_that_comes_back_by_a_rollback_can_move_again(engine, session):
    session.add(cart := Cart(id=1, lines=[Line(id=1)]))
    session.commit()
    line = cart.lines[0]
    line.submit()
    cart.lines.clear()
    session.flush()
    session.rollback()

    assert line.state is Step.NEW
    line.submit()
    session.commit()

    assert [job.state for job in read_jobs(engine)] == ["queued"]
    assert read_history(engine, key_text(1))[1:] == [("submit", "new", "queued")]


@pytest.mark.filterwarnings("ignore:Attribute history events accumulated")
@pytest.mark.parametrize("name", ["pending_to_persistent", "after_flush"])
def test_a_transition_fired_when_all_is_written_is_refused(engine, session, name):
    line = Line(id=1)
    session.add(Cart(id=1, lines=[line]))

    def once(_session, _given):  # the cart becomes persistent as well
        if line.state is Step.NEW:
            line.submit()

    event.listen(session, name, once)
    with pytest.raises(
        StateJobsError, match="was fired while the session was flushing"
    ):
        session.flush()
    session.rollback()

    assert read_history(engine) == []
    assert read_jobs(engine) == []


def test_a_transition_fired_after_the_flush_is_written_by_the_next(engine, session):
    line = Line(id=1)
    session.add(Cart(id=1, lines=[line]))

    @event.listens_for(session, "after_flush_postexec")
    def fire(_session, _context):
        if line.state is Step.NEW:
            line.submit()

    session.commit()

    assert read_history(engine)[1:] == [("submit", "new", "queued")]

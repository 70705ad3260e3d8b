"""What a new record has done in memory is in history, whichever object of it is stored."""

import pytest
from sqlalchemy.orm import Session

from statejobs import acting_as, override_state
from tests.resource.support import Step
from tests.support.carts import Base, Cart, Line
from tests.support.shop import read_history, read_history_rows, shop_engine

FIRED = [("create", None, "new"), ("submit", "new", "queued")]


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


def fired(**values):
    line = Line(**values)
    with acting_as("ada"):
        line.submit("because")
    return line


def one(session, line):
    return session.merge(line)


def all_of_them(session, line):
    return session.merge_all(given for given in [line])[0]


def behind_another(session, line):
    return session.merge(Cart(id=1, lines=[line])).lines[0]


WAYS = [one, behind_another]
if hasattr(Session, "merge_all"):  # from SQLAlchemy 2.1 on
    WAYS.append(all_of_them)


@pytest.mark.parametrize("merge", WAYS)
def test_steps_go_along_with_actor_and_arguments(engine, session, merge):
    line = fired(id=7)
    merged = merge(session, line)
    session.commit()

    assert merged.state is Step.QUEUED
    assert read_history(engine) == FIRED
    told = read_history_rows(engine)[-1]
    assert (told.actor, told.args, told.version) == ("ada", '{"why":"because"}', 1)
    assert line.state is Step.QUEUED


@pytest.mark.parametrize("merge", WAYS)
def test_a_state_in_the_dict_of_what_is_merged_counts_for_nothing(
    engine, session, merge
):
    line = Line(id=7)
    line.__dict__["state"] = Step.DONE
    merge(session, line)
    session.commit()

    assert read_history(engine) == [("create", None, "new")]
    assert session.get(Line, (7, "a")).state is Step.NEW


def test_what_is_merged_and_its_copy_move_each_by_itself(engine, session):
    line = fired(id=7)
    merged = session.merge(line)
    merged.finish()
    session.commit()

    assert read_history(engine) == [*FIRED, ("finish", "queued", "done")]
    line.finish()
    assert line.state is Step.DONE


def test_merging_twice_is_one_record(engine, session):
    line = fired(id=7)
    assert session.merge(line) is session.merge(line)
    session.commit()

    assert read_history(engine) == FIRED


def test_an_override_goes_along(engine, session):
    line = Line(id=7)
    with override_state(line, reason="import"):
        line.state = Step.DONE
    session.merge(line)
    session.commit()

    assert read_history(engine) == [
        ("create", None, "new"),
        ("override", "new", "done"),
    ]


def test_a_new_record_over_a_stored_one_moves_nothing(engine, session):
    session.add(Line(id=7))
    session.commit()
    session.merge(Line(id=7, cart_id=None))
    session.commit()

    assert read_history(engine) == [("create", None, "new")]


def test_merging_a_record_of_the_session_itself_leaves_it_alone(engine, session):
    session.add(line := fired(id=7))
    assert session.merge(line) is line
    session.commit()

    assert read_history(engine) == FIRED

"""A mapper event writes no state past the machine: the flush is refused, and nothing is stored."""

from contextlib import contextmanager

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified, set_committed_value

from statejobs import ProtectedStateError
from statejobs.store.tables import jobs, transitions
from tests.support.shop import Order, OrderState


def by_committed_value(_mapper, _connection, order):
    set_committed_value(order, "state", OrderState.FAILED)


def by_dict(_mapper, _connection, order):
    vars(order)["state"] = OrderState.FAILED


@contextmanager
def listening(name, listener):
    event.listen(Order, name, listener)
    try:
        yield
    finally:
        event.remove(Order, name, listener)


def count(engine):
    with engine.connect() as connection:
        return [
            len(connection.execute(table.select()).all())
            for table in (Order.__table__, jobs, transitions)
        ]


WAYS = [by_committed_value, by_dict]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["before_insert", "after_insert"])
@pytest.mark.parametrize("fires", [False, True])
def test_a_new_record_is_stored_where_its_steps_lead(engine, session, way, name, fires):
    order = Order(total=1)
    if fires:
        order.submit()
    session.add(order)

    with (
        listening(name, way),
        pytest.raises(ProtectedStateError, match="while the session was"),
    ):
        session.flush()
    session.rollback()

    assert count(engine) == [0, 0, 0]
    session.add(Order(total=2))
    session.commit()
    assert count(engine) == [1, 0, 1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["before_update", "after_update"])
def test_a_stored_record_is_where_its_steps_lead(engine, session, way, name):
    session.add(order := Order(total=1))
    session.commit()
    order.total = 2
    order.submit()

    with (
        listening(name, way),
        pytest.raises(ProtectedStateError, match="while the session was"),
    ):
        session.flush()
    session.rollback()

    assert count(engine) == [1, 0, 1]
    with Session(engine) as other:
        assert other.get_one(Order, order.id).state is OrderState.DRAFT


@pytest.mark.parametrize("way", WAYS)
def test_one_that_did_not_move_is_stored_where_it_was(engine, session, way):
    session.add(order := Order(total=1))
    session.commit()
    order.total = 2

    with listening("before_update", way):
        session.commit()

    session.expire_all()
    assert (order.state, order.total) == (OrderState.DRAFT, 2)


@pytest.mark.parametrize("way", WAYS)
def test_a_state_that_an_event_marks_as_written_is_refused(engine, session, way):
    def write(mapper, connection, order):
        way(mapper, connection, order)
        flag_modified(order, "state")

    session.add(order := Order(total=1))
    session.commit()
    order.total = 2

    with (
        listening("before_update", write),
        pytest.raises(ProtectedStateError, match="no step led"),
    ):
        session.commit()

    session.rollback()
    assert (order.state, order.total) == (OrderState.DRAFT, 1)


def test_an_event_may_write_other_columns(engine, session):
    def note(_mapper, _connection, order):
        order.coupon = "noted"

    session.add(order := Order(total=1))
    with listening("before_insert", note):
        order.submit()
        session.commit()

    assert (order.state, order.coupon) == (OrderState.QUEUED, "noted")

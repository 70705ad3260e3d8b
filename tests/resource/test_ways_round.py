"""Ways of Python and SQLAlchemy round the constructor and the attributes end at the machine."""

import copy
import pickle

import pytest
from sqlalchemy.orm import Session, make_transient, make_transient_to_detached
from sqlalchemy.orm.attributes import flag_modified, set_committed_value

from statejobs import ProtectedStateError, StaleTransitionError
from tests.support.shop import (
    Order,
    S,
    new_order,
    read_history,
    read_history_rows,
    read_jobs,
)

CREATED_AND_SUBMITTED = [("create", None, "draft"), ("submit", "draft", "queued")]


def stored_state(engine, order_id):
    with Session(engine) as session:
        return session.get(Order, order_id).state


# --- a new record ----------------------------------------------------------------------------


def test_a_merged_record_that_is_fired_before_the_flush_was_created_first(
    engine, session
):
    order = session.merge(Order(total=1))
    order.submit()
    session.commit()

    assert read_history(engine) == CREATED_AND_SUBMITTED
    assert [row.version for row in read_history_rows(engine)] == [0, 1]
    assert order.state_version == 1
    assert len(read_jobs(engine)) == 1


def test_a_new_record_is_stored_where_its_steps_lead_whatever_its_dict_says(
    engine, session
):
    order = Order(total=1)
    order.__dict__["state"] = S.COMPLETED
    session.add(order)
    session.commit()

    assert stored_state(engine, order.id) is S.DRAFT
    assert read_history(engine) == [("create", None, "draft")]


def test_a_new_record_whose_dict_lost_its_state_is_stored_where_its_steps_lead(
    engine, session
):
    order = Order(total=1)
    order.submit()
    del order.__dict__["state"]
    session.add(order)
    session.commit()

    assert stored_state(engine, order.id) is S.QUEUED
    assert read_history(engine) == CREATED_AND_SUBMITTED


def test_a_record_made_transient_is_created_anew_in_the_state_that_it_keeps(
    engine, session
):
    order = session.get(Order, new_order(engine, submitted=True))
    make_transient(order)
    order.id = None
    session.add(order)
    session.commit()

    assert read_history(engine, order.id) == [("create", None, "queued")]
    assert order.state_version == 0
    assert [job.record_id for job in read_jobs(engine)][-1] == str(order.id)


def test_a_record_made_transient_that_is_fired_before_the_flush_was_created_first(
    engine, session
):
    order = session.get(Order, new_order(engine))
    make_transient(order)
    order.id = None
    order.submit()
    session.add(order)
    session.commit()

    assert read_history(engine, order.id) == CREATED_AND_SUBMITTED
    assert order.state_version == 1


def test_a_record_that_only_looks_stored_is_not_created_again(engine, session):
    order_id = new_order(engine)
    order = Order(id=order_id)
    make_transient_to_detached(order)
    session.add(order)
    order.submit()
    session.commit()

    assert read_history(engine) == CREATED_AND_SUBMITTED
    assert (order.state, order.state_version) == (S.QUEUED, 1)


def test_a_record_that_only_looks_stored_loses_the_race_against_what_is_there(
    engine, session
):
    order = Order(id=new_order(engine, submitted=True))
    make_transient_to_detached(order)
    session.add(order)
    order.submit()

    with pytest.raises(
        StaleTransitionError, match="expected 'draft', but it is in 'queued'"
    ):
        session.commit()


def test_a_thawed_record_that_was_never_stored_can_be_merged_and_fired(engine, session):
    order = session.merge(pickle.loads(pickle.dumps(Order(total=1))))
    order.submit()
    session.commit()

    assert read_history(engine) == CREATED_AND_SUBMITTED


# --- a stored record -------------------------------------------------------------------------


def write_dict(order):
    order.__dict__["state"] = S.COMPLETED
    flag_modified(order, "state")


def commit_in_memory(order):
    set_committed_value(order, "state", S.COMPLETED)
    flag_modified(order, "state")


def flag_only(order):
    # would write back what others may have moved meanwhile
    flag_modified(order, "state")


def flag_version(order):
    order.__dict__["state_version"] = 7
    flag_modified(order, "state_version")


@pytest.mark.parametrize(
    "write", [write_dict, commit_in_memory, flag_only, flag_version]
)
def test_a_state_written_past_its_attribute_is_refused_at_the_flush(
    engine, session, write
):
    order = session.get(Order, new_order(engine, submitted=True))
    write(order)

    with pytest.raises(
        ProtectedStateError, match=r"^Order 1: state.* was written past"
    ):
        session.commit()

    session.rollback()
    assert stored_state(engine, order.id) is S.QUEUED
    assert read_history(engine) == CREATED_AND_SUBMITTED


def test_a_fired_record_goes_where_its_steps_lead_whatever_its_dict_says(
    engine, session
):
    order = session.get(Order, new_order(engine))
    order.submit()
    order.__dict__["state"] = S.COMPLETED
    session.commit()

    assert stored_state(engine, order.id) is S.QUEUED


def expire_all(session, order):
    session.expire(order)


def expire_state(session, order):
    session.expire(order, ["state"])


def refresh(session, order):
    session.refresh(order)


@pytest.mark.parametrize("forget", [expire_all, expire_state, refresh])
def test_assigning_is_refused_after_the_state_was_expired_or_read_anew(
    engine, session, forget
):
    order = session.get(Order, new_order(engine))
    forget(session, order)

    with pytest.raises(ProtectedStateError):
        order.state = S.COMPLETED

    session.commit()
    assert stored_state(engine, order.id) is S.DRAFT


@pytest.mark.parametrize("forget", [expire_all, expire_state, refresh])
def test_a_step_is_forgotten_with_its_state_and_may_be_made_again(
    engine, session, forget
):
    session.autoflush = False
    order = session.get(Order, new_order(engine))
    order.submit()
    forget(session, order)
    assert order.state is S.DRAFT

    order.cancel("instead")
    session.commit()

    assert read_history(engine)[1:] == [("cancel", "draft", "cancelled")]
    assert read_jobs(engine) == []


@pytest.mark.parametrize("is_stored", [False, True], ids=["new", "stored"])
def test_a_state_cannot_be_deleted(engine, session, is_stored):
    order = session.get(Order, new_order(engine)) if is_stored else Order(total=1)

    with pytest.raises(ProtectedStateError, match="its state cannot be deleted"):
        del order.state

    assert order.state is S.DRAFT


# --- copies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stored", [False, True], ids=["new", "stored"])
def test_a_shallow_copy_is_refused_since_it_would_be_the_same_record(
    engine, session, is_stored
):
    order = session.get(Order, new_order(engine)) if is_stored else Order(total=1)

    with pytest.raises(
        ProtectedStateError, match="a shallow copy would be the same record"
    ):
        copy.copy(order)


def test_a_deep_copy_of_a_new_record_has_steps_of_its_own(engine, session):
    order = Order(total=1)
    other = copy.deepcopy(order)
    other.submit()
    session.add_all([order, other])
    session.commit()

    assert read_history(engine, order.id) == [("create", None, "draft")]
    assert read_history(engine, other.id) == CREATED_AND_SUBMITTED

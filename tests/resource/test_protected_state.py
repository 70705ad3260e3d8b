import pickle

import pytest
from sqlalchemy import insert, update
from sqlalchemy.orm import Session

from statejobs import ProtectedStateError, override_state
from tests.support.shop import (
    Order,
    S,
    new_order,
    read_history,
    read_history_rows,
    read_jobs,
)


def stored(engine, order_id):
    with Session(engine) as session:
        order = session.get(Order, order_id)
        return order.state, order.state_version


def test_assigning_the_state_is_refused_with_the_ways_there_are(session):
    order = Order(total=1)
    session.add(order)
    session.commit()

    with pytest.raises(ProtectedStateError) as refused:
        order.state = S.FAILED

    assert str(refused.value) == (
        f"Order {order.id}: state = 'failed' would skip guards, history and jobs. "
        "Fire a transition (submit, cancel), "
        "or say why: with override_state(record, reason=…)"
    )
    assert order.state is S.DRAFT


def test_a_new_record_does_not_choose_its_state():
    with pytest.raises(ProtectedStateError) as refused:
        Order(total=1, state=S.QUEUED)

    assert str(refused.value) == (
        "Order(state=…): a new record starts in 'draft'; leave it out, then fire a transition. "
        "In tests and imports: with override_state(record, reason=…)"
    )


@pytest.mark.parametrize("attribute", ["state_version", "state_changed_at"])
def test_the_count_of_transitions_is_not_assigned(session, attribute):
    order = Order(total=1)
    session.add(order)
    session.commit()

    with pytest.raises(ProtectedStateError) as refused:
        setattr(
            order, attribute, 7 if attribute == "state_version" else order.created_at
        )

    assert str(refused.value) == (
        f"Order {order.id}: {attribute} is kept by statejobs: it tells racing transitions apart"
    )


# --- bulk updates ----------------------------------------------------------------------------

BULK = "update(Order) sets 'state': that would skip guards, history and jobs. "


@pytest.mark.parametrize(
    "statement",
    [
        update(Order).values(state=S.FAILED),
        update(Order).values({"state": S.FAILED}),
        update(Order).values({Order.state: S.FAILED}),
        update(Order).where(Order.total > 1).ordered_values((Order.state, S.FAILED)),
        update(Order).values(state_version=9),
    ],
    ids=["keyword", "name", "attribute", "ordered", "version"],
)
def test_a_bulk_update_of_the_state_is_refused(session, statement):
    with pytest.raises(ProtectedStateError, match=r"^update\(Order\) sets"):
        session.execute(statement)


def test_a_bulk_update_by_primary_key_is_refused(session):
    with pytest.raises(ProtectedStateError) as refused:
        session.execute(
            update(Order), [{"id": 1, "state": S.FAILED}, {"id": 2, "total": 1}]
        )

    assert str(refused.value) == BULK + "Fire a transition on each record instead"


def test_the_old_form_of_a_bulk_update_is_refused(session):
    with pytest.raises(ProtectedStateError):
        session.query(Order).update({"state": S.FAILED})


def test_a_bulk_update_of_other_columns_is_none_of_ours(session, engine):
    order_id = new_order(engine)

    session.execute(update(Order).values(coupon="X"))
    session.commit()

    assert session.get(Order, order_id).coupon == "X"


def test_a_bulk_insert_into_another_state_is_refused(session):
    with pytest.raises(ProtectedStateError) as refused:
        session.execute(insert(Order), [{"total": 1, "state": S.QUEUED}])

    assert str(refused.value) == (
        "insert(Order) sets 'state': that would skip guards, history and jobs. "
        "Leave it out, so that the records start in 'draft'"
    )


# --- override --------------------------------------------------------------------------------


def test_an_override_is_written_into_the_history_with_its_reason(session, engine):
    order = Order(total=1)
    session.add(order)
    session.commit()

    with override_state(order, reason="imported from the old shop"):
        order.state = S.FAILED
    session.commit()

    row = read_history_rows(engine)[-1]
    assert (row.name, row.source, row.target) == ("override", "draft", "failed")
    assert (row.reason, row.version) == ("imported from the old shop", 1)
    assert stored(engine, order.id) == (S.FAILED, 1)


def test_an_override_into_a_promising_state_enqueues_its_job(session, engine):
    order = Order(total=1)
    session.add(order)

    with override_state(order, reason="test"):
        order.state = S.QUEUED
    session.commit()

    assert [(job.key, job.state) for job in read_jobs(engine)] == [
        ("order.charge", "queued")
    ]


def test_an_override_out_of_a_promising_state_cancels_its_job(session, engine):
    order = session.get(Order, new_order(engine, submitted=True))

    with override_state(order, reason="test"):
        order.state = S.DRAFT
    session.commit()

    assert [(j.state, j.reason) for j in read_jobs(engine)] == [
        ("cancelled", "left by override")
    ]


def test_an_override_may_be_flushed_inside(session, engine):
    order = session.get(Order, new_order(engine))

    with override_state(order, reason="test"):
        order.state = S.FAILED
        session.flush()
    session.commit()

    assert stored(engine, order.id) == (S.FAILED, 1)
    assert read_history(engine)[1:] == [("override", "draft", "failed")]


def test_an_override_that_ends_with_an_error_is_written_or_rolled_back_like_any_change(
    session, engine
):
    order = session.get(Order, new_order(engine))

    with pytest.raises(RuntimeError), override_state(order, reason="test"):
        order.state = S.FAILED
        raise RuntimeError("later")
    session.commit()

    assert stored(engine, order.id) == (S.FAILED, 1)
    assert read_history(engine)[1:] == [("override", "draft", "failed")]


def test_an_override_that_changes_nothing_writes_nothing(session, engine):
    order = session.get(Order, new_order(engine))

    with override_state(order, reason="test"):
        order.state = S.DRAFT
    session.commit()

    assert len(read_history(engine)) == 1


def test_an_override_says_why(session):
    with (
        pytest.raises(ValueError, match="say why, for those who read the history"),
        override_state(Order(total=1), reason=" "),
    ):
        pass


def test_an_override_takes_a_state(session):
    order = Order(total=1)

    with (
        pytest.raises(ProtectedStateError) as refused,
        override_state(order, reason="test"),
    ):
        order.state = "faild"

    assert str(refused.value) == (
        "Order (new): state = 'faild' is not a member of OrderState; "
        "did you mean 'failed'?"
    )


def test_an_override_ends_with_its_block(session):
    order = Order(total=1)
    with override_state(order, reason="test"):
        order.state = S.FAILED

    with pytest.raises(ProtectedStateError):
        order.state = S.DRAFT


# --- merge, pickle, copy ---------------------------------------------------------------------


def test_merging_a_detached_record_works(engine):
    with Session(engine) as session:
        detached = session.get(Order, new_order(engine, submitted=True))
    detached.coupon = "X"

    with Session(engine) as session:
        merged = session.merge(detached)
        session.commit()

        assert (merged.coupon, merged.state) == ("X", S.QUEUED)
    assert len(read_history(engine)) == 2


def test_merging_a_record_that_moved_meanwhile_is_refused(engine):
    with Session(engine) as session:
        detached = session.get(Order, new_order(engine))
    with Session(engine) as session:
        session.get(Order, detached.id).cancel("gone")
        session.commit()

    with Session(engine) as session, pytest.raises(ProtectedStateError):
        session.merge(detached)


def test_merging_a_record_that_went_round_a_circle_is_refused(engine):
    with Session(engine) as session:
        detached = session.get(Order, new_order(engine))
    with Session(engine) as session:
        order = session.get(Order, detached.id)
        for state in (S.FAILED, S.DRAFT):
            with override_state(order, reason="test"):
                order.state = state
        session.commit()

    with Session(engine) as session, pytest.raises(ProtectedStateError):
        session.merge(detached)

    assert stored(engine, detached.id) == (S.DRAFT, 2)


def test_merging_a_new_record_writes_its_history_and_its_job(engine):
    order = Order(total=1)
    order.submit()

    with Session(engine) as session:
        merged = session.merge(order)
        session.commit()

        assert merged.state is S.QUEUED
    assert [job.state for job in read_jobs(engine)] == ["queued"]
    assert read_history(engine) == [
        ("create", None, "draft"),
        ("submit", "draft", "queued"),
    ]


def test_pickling_a_record_works(engine):
    with Session(engine) as session:
        order = session.get(Order, new_order(engine, submitted=True))

    thawed = pickle.loads(pickle.dumps(order))

    assert (thawed.state, thawed.available_transitions()) == (S.QUEUED, ("cancel",))


def test_pickling_a_record_keeps_the_steps_that_were_not_flushed(engine):
    with Session(engine) as session:
        order = session.get(Order, new_order(engine))
        session.expunge(order)
        order.submit()

    thawed = pickle.loads(pickle.dumps(order))
    with Session(engine) as session:
        session.add(thawed)
        session.commit()

    assert [job.state for job in read_jobs(engine)] == ["queued"]


def test_pickling_a_new_record_keeps_its_steps(engine):
    order = Order(total=1)
    order.submit()

    thawed = pickle.loads(pickle.dumps(order))
    with Session(engine) as session:
        session.add(thawed)
        session.commit()

    assert read_history(engine) == [
        ("create", None, "draft"),
        ("submit", "draft", "queued"),
    ]
    assert len(read_jobs(engine)) == 1

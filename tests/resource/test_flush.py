"""State, history and job are written by one flush and live or die with its transaction."""

from datetime import timedelta

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from statejobs import SchemaError, StateJobsError, acting_as, tenant
from statejobs.store.engines.factory import open_engine
from tests.resource.support import charges, statements_on
from tests.support.shop import (
    Base,
    Order,
    S,
    StoppedClock,
    new_order,
    read_history,
    read_history_rows,
    read_jobs,
)

# --- one transaction -------------------------------------------------------------------------


def test_nothing_is_seen_before_the_commit_and_everything_after(session, engine):
    order = Order(total=1)
    session.add(order)
    order.submit(coupon="X")
    session.flush()
    before = (read_jobs(engine), read_history(engine))

    session.commit()

    assert before == ([], [])
    assert charges(engine) == [(order.id, "queued")]
    assert read_history(engine) == [
        ("create", None, "draft"),
        ("submit", "draft", "queued"),
    ]


def test_a_rollback_takes_everything(session, engine):
    order = Order(total=1)
    session.add(order)
    order.submit()
    session.flush()

    session.rollback()

    assert (read_jobs(engine), read_history(engine)) == ([], [])


def test_a_flush_that_fails_writes_nothing(session, engine):
    order = session.get(Order, new_order(engine))
    order.submit()
    session.add(Order(id=99, total=None))

    with pytest.raises(IntegrityError):
        session.commit()
    session.rollback()

    assert order.state is S.DRAFT
    assert read_jobs(engine) == []


def test_the_job_carries_what_the_trigger_says(session, engine):
    order = Order(total=1)
    session.info["statejobs.clock"] = clock = StoppedClock()
    session.add(order)
    order.submit()
    session.commit()

    [job] = read_jobs(engine)
    assert (job.key, job.queue, job.priority) == ("order.charge", "payments", 0)
    assert (job.resource, job.record_id, job.args) == ("Order", str(order.id), "{}")
    assert (job.run_at, job.enqueued_at) == (clock.at, clock.at)
    assert (job.attempt, job.max_attempts) == (0, 5)
    assert len(job.idempotency_key) == 32


def test_the_creation_of_a_record_is_no_later_than_its_first_transition(
    session, engine
):
    session.info["statejobs.clock"] = clock = StoppedClock()
    order = Order(total=1)
    session.add(order)
    order.submit()
    submitted = clock.at
    clock.advance(seconds=5)
    order.cancel("too dear")
    clock.advance(seconds=5)
    session.commit()

    times = [row.at for row in read_history_rows(engine)]
    assert times == [submitted, submitted, submitted + timedelta(seconds=5)]


def test_jobs_of_one_flush_have_their_ids_in_the_order_of_their_records(
    session, engine
):
    orders = [Order(total=1) for _ in range(12)]
    session.add_all(orders)
    session.flush()
    for order in reversed(orders):
        order.submit()
    session.commit()

    assert [int(job.record_id) for job in read_jobs(engine)] == [
        order.id for order in orders
    ]


def test_more_jobs_than_one_statement_takes_have_their_ids_in_that_order_too(
    session, engine
):
    orders = [Order(total=1) for _ in range(1201)]
    session.add_all(orders)
    for order in orders:
        order.submit()
    session.commit()

    assert [int(job.record_id) for job in read_jobs(engine)] == [
        order.id for order in orders
    ]


def test_missing_tables_of_ours_are_named_with_what_makes_them(database_url):
    engine = open_engine(database_url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        order = Order(total=1)
        session.add(order)
        order.submit()

        with pytest.raises(SchemaError) as refused:
            session.commit()

        session.rollback()
        assert isinstance(refused.value.__cause__, DBAPIError)
    for way in ("statejobs_transitions", "statejobs db upgrade", "create_all()"):
        assert way in str(refused.value)
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(Order)) == 0
    engine.dispose()


def test_the_time_comes_from_the_clock_of_the_session(session, engine):
    session.info["statejobs.clock"] = clock = StoppedClock()
    order = Order(total=1)
    session.add(order)
    created = clock.at
    session.flush()
    clock.advance(hours=1)

    order.submit()
    session.commit()

    assert [row.at for row in read_history_rows(engine)] == [created, clock.at]
    assert order.state_changed_at == clock.at


def test_history_says_who_what_and_with_which_arguments(session, engine):
    order = Order(total=1)
    session.add(order)
    session.commit()

    with acting_as("user:7"), tenant("acme"):
        order.submit(coupon="X")
    session.commit()

    row = read_history_rows(engine)[-1]
    assert (row.actor, row.tenant, row.args) == ("user:7", "acme", '{"coupon":"X"}')
    assert (row.version, row.job_id) == (1, None)
    assert row.duration >= 0


def test_a_job_carries_who_fired_not_who_committed(session, engine):
    order = Order(total=1)
    session.add(order)

    with acting_as("user:7"), tenant("acme"):
        order.submit()
    with acting_as("user:8"):
        session.commit()

    [job] = read_jobs(engine)
    assert (job.actor, job.tenant) == ("user:7", "acme")


# --- savepoints ------------------------------------------------------------------------------


def test_a_savepoint_that_is_rolled_back_before_the_flush_takes_the_job(
    session, engine
):
    order = session.get(Order, new_order(engine))
    savepoint = session.begin_nested()
    with session.no_autoflush:
        order.submit()

    savepoint.rollback()
    session.commit()

    assert (order.state, read_jobs(engine)) == (S.DRAFT, [])


def test_a_savepoint_that_is_rolled_back_after_the_flush_takes_the_job(session, engine):
    order = session.get(Order, new_order(engine))
    savepoint = session.begin_nested()
    order.submit()
    session.flush()

    savepoint.rollback()
    session.commit()

    assert (order.state, read_jobs(engine)) == (S.DRAFT, [])
    assert read_history(engine) == [("create", None, "draft")]


def test_a_released_savepoint_keeps_the_job(session, engine):
    order = session.get(Order, new_order(engine))

    with session.begin_nested():
        order.submit()
    session.commit()

    assert charges(engine) == [(order.id, "queued")]


def test_an_inner_savepoint_takes_only_its_own_steps(session, engine):
    first, second = (session.get(Order, new_order(engine)) for _ in range(2))
    outer = session.begin_nested()
    first.submit()
    inner = session.begin_nested()
    second.submit()
    session.flush()

    inner.rollback()
    outer.commit()
    session.commit()

    assert (first.state, second.state) == (S.QUEUED, S.DRAFT)
    assert charges(engine) == [(first.id, "queued")]


def test_an_outer_savepoint_takes_what_an_inner_one_released(session, engine):
    order = session.get(Order, new_order(engine))
    outer = session.begin_nested()
    with session.begin_nested():
        order.submit()

    outer.rollback()
    session.commit()

    assert (order.state, read_jobs(engine)) == (S.DRAFT, [])


def test_a_new_record_whose_savepoint_was_rolled_back_can_be_added_again(
    session, engine
):
    order = Order(total=1)
    savepoint = session.begin_nested()
    session.add(order)
    order.submit()
    session.flush()
    savepoint.rollback()

    session.add(order)
    session.commit()

    assert charges(engine) == [(order.id, "queued")]
    assert read_history(engine) == [
        ("create", None, "draft"),
        ("submit", "draft", "queued"),
    ]


def test_a_new_record_whose_transaction_was_rolled_back_can_be_added_again(
    session, engine
):
    order = Order(total=1)
    session.add(order)
    session.flush()
    order.submit()
    session.rollback()

    session.add(order)
    session.commit()

    assert (order.state, order.state_version) == (S.QUEUED, 1)
    assert charges(engine) == [(order.id, "queued")]


def test_a_step_that_a_savepoint_took_does_not_come_back_with_its_record(
    session, engine
):
    order = Order(total=1)
    session.add(order)
    session.flush()
    savepoint = session.begin_nested()
    order.submit()
    session.flush()
    savepoint.rollback()
    session.refresh(order)
    session.rollback()

    session.add(order)
    session.commit()

    assert (order.state, read_jobs(engine)) == (S.DRAFT, [])
    assert read_history(engine) == [("create", None, "draft")]


# --- few statements --------------------------------------------------------------------------


def test_fifty_new_records_need_one_insert_of_jobs_and_one_of_history(session, engine):
    orders = [Order(total=1) for _ in range(50)]
    session.add_all(orders)
    for order in orders:
        order.submit()

    with statements_on(engine) as seen:
        session.flush()

    assert seen("INSERT INTO statejobs_jobs") == 1
    assert seen("INSERT INTO statejobs_transitions") == 1
    assert (seen("UPDATE orders"), seen("UPDATE statejobs_jobs")) == (0, 0)


def test_fifty_stored_records_need_one_update_as_well(session, engine):
    orders = [Order(total=1, coupon="X") for _ in range(50)]
    session.add_all(orders)
    session.commit()
    for order in orders:
        order.submit(coupon="X")

    with statements_on(engine) as seen:
        session.flush()

    assert seen("INSERT INTO statejobs_jobs") == 1
    assert seen("INSERT INTO statejobs_transitions") == 1
    assert (seen("UPDATE orders"), seen("UPDATE statejobs_jobs")) == (1, 0)


def test_fifty_records_that_leave_need_one_update_of_their_jobs(session, engine):
    orders = [Order(total=1) for _ in range(50)]
    session.add_all(orders)
    for order in orders:
        order.submit()
    session.commit()
    for order in orders:
        order.cancel("all of them")

    with statements_on(engine) as seen:
        session.flush()

    assert (seen("UPDATE orders"), seen("UPDATE statejobs_jobs")) == (1, 1)
    assert seen("INSERT INTO statejobs_jobs") == 0


def test_a_flush_that_moves_nothing_costs_nothing(session, engine):
    order = session.get(Order, new_order(engine))
    order.coupon = "X"

    with statements_on(engine) as seen:
        session.flush()

    assert seen("statejobs_") == 0


# --- several steps, late steps ---------------------------------------------------------------


def test_two_transitions_in_one_flush_write_two_rows_and_the_last_state(
    session, engine
):
    order = session.get(Order, new_order(engine))
    order.submit()
    order.cancel("changed my mind")
    session.commit()

    assert read_history(engine)[1:] == [
        ("submit", "draft", "queued"),
        ("cancel", "queued", "cancelled"),
    ]
    assert [row.version for row in read_history_rows(engine)] == [0, 1, 2]


def test_a_promise_that_was_left_in_the_same_flush_makes_no_job(session, engine):
    new, stored = Order(total=1), session.get(Order, new_order(engine))
    session.add(new)
    for order in (new, stored):
        order.submit()
        order.cancel("changed my mind")

    session.commit()

    assert read_jobs(engine) == []


def test_a_step_fired_by_another_listener_of_the_flush_is_refused(session, engine):
    order = session.get(Order, new_order(engine))
    event.listen(session, "before_flush", lambda *_: order.submit())
    order.coupon = "X"

    with pytest.raises(StateJobsError) as refused:
        session.flush()
    session.rollback()

    assert str(refused.value) == (
        f"Order {order.id}: 'submit' was fired while the session was flushing, or "
        "flush([…]) wrote the record along with another: too late to be written with it. "
        "Fire it before the flush, not in an ORM event, and flush the whole session"
    )
    assert read_jobs(engine) == []


def test_two_sessions_in_one_transaction_tell_one_story(engine):
    order_id = new_order(engine)

    with engine.begin() as connection:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.get(Order, order_id).submit()
            session.commit()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.get(Order, order_id).cancel("enough")
            session.commit()

    assert charges(engine) == [(order_id, "cancelled")]

"""Of many that move one record, one wins; the others are told."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.orm import Session

from statejobs import StaleTransitionError, override_state
from tests.resource.support import charges
from tests.support.shop import Order, S, new_order, read_history, shop_engine
from tests.support.size import size

RACERS = 50
RECORDS = size(10, 1000)


def test_the_loser_is_told_what_was_expected_and_what_was_found(engine):
    order_id = new_order(engine)
    with Session(engine) as first, Session(engine) as second:
        winner, loser = (session.get(Order, order_id) for session in (first, second))
        winner.submit()
        first.commit()
        loser.cancel("too late")

        with pytest.raises(StaleTransitionError) as refused:
            second.commit()

    assert str(refused.value) == (
        f"Order {order_id}: 'cancel' expected 'draft', but it is in 'queued': "
        "someone else was first. Roll back, load the record again and decide anew"
    )
    assert (refused.value.expected, refused.value.found) == ("draft", "queued")


def test_the_loser_among_many_is_found(engine):
    ids = [new_order(engine) for _ in range(5)]
    with Session(engine) as first, Session(engine) as second:
        mine = [second.get(Order, order_id) for order_id in ids]
        first.get(Order, ids[3]).cancel("gone")
        first.commit()
        for order in mine:
            order.submit()

        with pytest.raises(
            StaleTransitionError, match=f"^Order {ids[3]}: 'submit' expected"
        ):
            second.commit()

    assert charges(engine) == []


def test_a_record_that_is_gone_is_named_so(engine):
    order_id = new_order(engine)
    with Session(engine) as first, Session(engine) as second:
        mine = second.get(Order, order_id)
        first.delete(first.get(Order, order_id))
        first.commit()
        mine.submit()

        with pytest.raises(StaleTransitionError, match="but it is gone"):
            second.commit()


def test_the_loser_writes_nothing_and_can_decide_anew(engine):
    order_id = new_order(engine)
    with Session(engine) as first, Session(engine) as second:
        winner, loser = (session.get(Order, order_id) for session in (first, second))
        winner.submit()
        first.commit()
        loser.coupon = "X"
        loser.submit()
        with pytest.raises(StaleTransitionError):
            second.commit()
        second.rollback()

        assert loser.available_transitions() == ("cancel",)
        loser.cancel("changed my mind")
        second.commit()

        assert (loser.state, charges(engine)) == (
            S.CANCELLED,
            [(order_id, "cancelled")],
        )


def test_a_record_that_came_back_to_its_state_has_still_moved(engine):
    order_id = new_order(engine)
    with Session(engine) as first, Session(engine) as second:
        mine, theirs = first.get(Order, order_id), second.get(Order, order_id)
        for state in (S.FAILED, S.DRAFT):
            with override_state(theirs, reason="test"):
                theirs.state = state
        second.commit()
        mine.submit()

        with pytest.raises(StaleTransitionError):
            first.commit()


def test_an_unrelated_edit_never_conflicts(engine):
    order_id = new_order(engine)
    with Session(engine) as first, Session(engine) as second:
        moving, edited = first.get(Order, order_id), second.get(Order, order_id)
        edited.coupon = "X"
        second.commit()
        moving.submit(coupon="Y")
        first.commit()
        edited.total = 7
        second.commit()

        assert (moving.state, edited.total, edited.coupon) == (S.QUEUED, 7, "Y")


def race(engine, order_id):
    """Let `RACERS` sessions, which all saw a draft, submit the order; return how each ended."""
    line = threading.Barrier(RACERS)

    def run(_):
        with Session(engine) as session:
            session.get(Order, order_id).submit()
            line.wait()
            try:
                session.commit()
            except StaleTransitionError:
                return "lost"
            return "won"

    with ThreadPoolExecutor(RACERS) as pool:
        return Counter(pool.map(run, range(RACERS)))


@pytest.mark.timeout(size(300, 3600))
@pytest.mark.parametrize(
    ("database", "isolation"),
    [
        ("sqlite_url", None),
        pytest.param("postgres_url", "READ COMMITTED", marks=pytest.mark.postgres),
        pytest.param("postgres_url", "REPEATABLE READ", marks=pytest.mark.postgres),
    ],
)
def test_of_fifty_racers_exactly_one_wins(request, database, isolation):
    url = request.getfixturevalue(database)
    with shop_engine(url, connections=RACERS) as plain:
        engine = (
            plain.execution_options(isolation_level=isolation) if isolation else plain
        )
        ids = [new_order(plain) for _ in range(RECORDS)]

        ends = [race(engine, order_id) for order_id in ids]

        assert ends == [{"won": 1, "lost": RACERS - 1}] * RECORDS
        assert charges(plain) == [(order_id, "queued") for order_id in ids]
        for order_id in ids:
            steps = read_history(plain, order_id)
            assert steps == [("create", None, "draft"), ("submit", "draft", "queued")]

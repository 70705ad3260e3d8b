"""Rows in a state that only newer code has, read by older code."""

import pytest
from sqlalchemy import select

from statejobs import TransitionRefusedError
from tests.support.hostile import put_in_state
from tests.support.parcels import Item, Parcel, add


@pytest.fixture
def held(app):
    """The key of a parcel that newer code has put on hold, beside two others."""
    key = add(app, Parcel(), Parcel(), Parcel())
    put_in_state(app, "parcels", key, "on_hold")
    yield key
    put_in_state(app, "parcels", key, "packed")


def test_one_row_in_an_unknown_state_fails_no_query_for_many(app, held):
    with app.session() as session:
        states = [
            p.state.value for p in session.scalars(select(Parcel).order_by(Parcel.id))
        ]

    assert states == ["on_hold", "packed", "packed"]


def test_an_unknown_state_is_no_member_and_no_transition_leaves_it(app, held):
    with app.session() as session:
        parcel = session.get_one(Parcel, held)

        assert parcel.available_transitions() == ()
        assert not parcel.drop.can()
        with pytest.raises(TransitionRefusedError, match="'on_hold'"):
            parcel.drop()


def test_other_columns_of_a_record_in_an_unknown_state_can_be_written(app, held):
    with app.session() as session:
        session.get_one(Parcel, held).note = "still ours"
        session.commit()
        parcel = session.get_one(Parcel, held)

        assert (parcel.note, parcel.state.value) == ("still ours", "on_hold")


def test_a_child_of_a_record_in_an_unknown_state_is_loaded(app, held):
    with app.session() as session:
        session.add(Item(name="string", parcel_id=held))
        session.commit()
        (item,) = session.scalars(select(Item))

        assert item.parcel.state.value == "on_hold"

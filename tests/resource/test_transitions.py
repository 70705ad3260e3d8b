import asyncio
from enum import StrEnum

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    ArgumentsError,
    JobContext,
    StatefulResource,
    TransitionRefusedError,
    Trigger,
    state_column,
    transition,
)
from tests.resource.support import Step, context
from tests.support.shop import Order, S, make_tables, new_order, read_history, read_jobs


class Base(DeclarativeBase): ...


class Parcel(StatefulResource, Base):
    """What the order does not show: async and failing bodies, several guards, a status."""

    __tablename__ = "parcels"

    id: Mapped[int] = mapped_column(primary_key=True)
    weight: Mapped[int] = mapped_column(default=0)
    address: Mapped[str | None]
    status: Mapped[Step] = state_column(
        Step, initial=Step.NEW, final=[Step.DONE], deprecated=[Step.OLD]
    )

    label = Trigger.on_demand("parcel.label")

    def has_weight(self) -> bool:
        """It was not weighed."""
        return self.weight > 0

    def has_address(self):
        return self.address is not None

    @transition(
        Step.NEW, Step.QUEUED, guard=[has_weight, has_address], run_trigger=label
    )
    def pack(self): ...

    @transition(Step.NEW, Step.DONE)
    def give_up(self, *, fail: bool = False) -> str:
        self.address = "nowhere"
        if fail:
            raise RuntimeError("no")
        return "gone"

    @transition([Step.NEW, Step.OLD], Step.DONE)
    async def hand_over(self, *, fail: bool = False) -> str:
        await asyncio.sleep(0)
        if fail:
            raise RuntimeError("no")
        return "gone"

    @transition(Step.NEW, Step.DONE)
    def skip(self):
        self.give_up()

    @transition(Step.NEW, Step.DONE)
    def weigh_in(self, scale: object) -> None:
        self.weight = scale.weight

    @label.action(Step.QUEUED, Step.DONE)
    def print_label(self, ctx: JobContext) -> str:
        return "printed"


# --- before anything is stored ---------------------------------------------------------------


def test_a_record_has_its_state_at_construction():
    order = Order(total=1)

    assert order.state is S.DRAFT


def test_a_transition_fires_before_the_first_flush(session, engine):
    order = Order(total=1)
    order.submit(coupon="X")
    session.add(order)
    session.commit()

    assert order.state is S.QUEUED
    assert order.coupon == "X"
    assert [job.key for job in read_jobs(engine)] == ["order.charge"]


def test_a_transition_moves_the_record_at_once_and_the_database_with_the_flush(session):
    order = Order(total=1)
    session.add(order)
    session.flush()

    order.submit()

    with session.no_autoflush:
        stored = session.query(Order.state).scalar()
    assert (order.state, stored) == (S.QUEUED, S.DRAFT)


def test_the_version_counts_transitions(session):
    order = Order(total=1)
    session.add(order)
    session.commit()
    created = order.state_version

    order.submit()
    order.cancel("changed my mind")
    session.commit()

    assert (created, order.state_version) == (0, 2)


# --- refusal ---------------------------------------------------------------------------------


def test_a_refusal_names_the_record_its_state_and_what_is_possible(session):
    order = Order(total=1)
    session.add(order)
    order.submit()
    session.commit()

    with pytest.raises(TransitionRefusedError) as refused:
        order.submit()

    assert str(refused.value) == (
        f"Order {order.id} cannot 'submit': it is in 'queued', and 'submit' starts from 'draft'. "
        "From 'queued' you can: cancel."
    )
    assert refused.value.available == ("cancel",)
    assert refused.value.state == "queued"


def test_a_guard_refuses_with_the_first_line_of_its_docstring():
    order = Order(total=0)

    with pytest.raises(TransitionRefusedError) as refused:
        order.submit()

    assert refused.value.reasons == ("Nothing to charge.",)
    assert order.state is S.DRAFT


def test_every_guard_that_refuses_is_heard():
    parcel = Parcel(weight=0)

    assert parcel.pack.why_not() == (
        "It was not weighed.",
        "guard 'has_address' says no.",
    )


def test_can_and_available_transitions_ask_the_guards():
    free, priced = Order(total=0), Order(total=1)

    assert (free.submit.can(), priced.submit.can()) == (False, True)
    assert free.available_transitions() == ("cancel",)
    assert priced.available_transitions() == ("submit", "cancel")


def test_a_guard_that_raises_propagates_and_nothing_changes():
    order = Order(total=None)

    with pytest.raises(TypeError, match="not supported") as raised:
        order.submit()

    assert order.state is S.DRAFT
    assert raised.value.__notes__ == [
        "Order (new): guard 'has_amount' of 'submit' raised this"
    ]


def test_a_final_state_leaves_no_choice():
    parcel = Parcel()
    parcel.give_up()

    assert parcel.status is Step.DONE
    assert parcel.available_transitions() == ()


def test_a_deprecated_state_can_still_be_left():
    assert Parcel.hand_over.source == (Step.NEW, Step.OLD)


# --- bodies ----------------------------------------------------------------------------------


def test_a_transition_returns_what_its_body_returned():
    parcel = Parcel()

    answer = parcel.give_up()

    assert answer == "gone"


def test_a_body_that_raises_leaves_the_state(session, engine):
    order = Order(total=1)
    session.add(order)
    session.commit()

    with pytest.raises(TypeError, match="reason"):
        order.cancel()
    session.commit()

    assert order.state is S.DRAFT
    assert read_history(engine) == [("create", None, "draft")]


def test_a_wrong_argument_is_refused_before_anything_changes():
    order = Order(total=1)

    with pytest.raises(ArgumentsError) as refused:
        order.submit(cupon="X")

    assert str(refused.value) == (
        "Order.submit: argument 'cupon' is unknown; did you mean 'coupon'?"
    )
    assert order.state is S.DRAFT


def test_a_transition_takes_what_json_cannot_hold():
    class Scale:
        weight = 7

    parcel = Parcel()

    parcel.weigh_in(Scale())

    assert (parcel.weight, parcel.status) == (7, Step.DONE)


def test_a_body_may_not_fire_another_transition_of_its_record():
    parcel = Parcel()

    with pytest.raises(TransitionRefusedError) as refused:
        parcel.skip()

    assert refused.value.reasons == ("its own body moved it from 'new' to 'done'.",)


def test_an_async_transition_is_awaited():
    parcel = Parcel()

    answer = asyncio.run(parcel.hand_over())

    assert (answer, parcel.status) == ("gone", Step.DONE)


def test_an_async_body_that_raises_leaves_the_state():
    parcel = Parcel()

    with pytest.raises(RuntimeError):
        asyncio.run(parcel.hand_over(fail=True))

    assert parcel.status is Step.NEW


def test_an_async_transition_is_refused_when_the_record_moved_while_it_waited():
    parcel = Parcel()

    async def race():
        handing_over = asyncio.ensure_future(parcel.hand_over())
        await asyncio.sleep(0)
        parcel.give_up()
        await handing_over

    with pytest.raises(TransitionRefusedError, match="it is in 'done'"):
        asyncio.run(race())


# --- introspection ---------------------------------------------------------------------------


def test_the_class_describes_its_transitions():
    assert Order.submit.source == (S.DRAFT,)
    assert Order.submit.target is S.QUEUED
    assert Order.submit.__doc__ == "Ask for the payment."
    assert Order.cancel.source == (S.DRAFT, S.QUEUED, S.FAILED)


def test_the_class_describes_its_actions():
    action = Order.process_payment

    assert (action.source, action.target) == ((S.QUEUED,), S.COMPLETED)
    assert (action.during, action.failed) == (S.PROCESSING, S.FAILED)


def test_the_machine_is_plain_values():
    machine = Order.__machine__

    assert machine.states == (
        "draft",
        "queued",
        "processing",
        "completed",
        "failed",
        "cancelled",
    )
    assert machine.initial == "draft"
    assert [edge.name for edge in machine.transitions] == ["submit", "retry", "cancel"]
    assert [trigger.key for trigger in machine.triggers] == ["order.charge"]
    assert machine.promised_by("queued") == ("order.charge",)


def test_the_machine_has_each_option_of_a_trigger():
    (trigger,) = Order.__machine__.triggers

    assert trigger.options == Order.charge.spec.options
    assert (trigger.queue, trigger.max_attempts) == ("payments", 5)


# --- actions called directly -----------------------------------------------------------------


def test_an_action_called_directly_walks_the_record_to_its_target(session, engine):
    order = Order(total=1)
    session.add(order)
    order.submit()
    session.commit()

    order.process_payment(context(session, order))
    session.commit()

    assert order.state is S.COMPLETED
    assert read_history(engine)[2:] == [
        ("process_payment.start", "queued", "processing"),
        ("process_payment.complete", "processing", "completed"),
    ]


def test_an_action_without_during_goes_straight_to_its_target():
    parcel = Parcel(weight=1, address="here")
    parcel.pack()

    answer = parcel.print_label(None)

    assert (answer, parcel.status) == ("printed", Step.DONE)


def test_an_action_called_directly_is_refused_from_elsewhere():
    order = Order(total=1)

    with pytest.raises(TransitionRefusedError) as refused:
        order.process_payment(None)

    assert refused.value.reasons == (
        "it is in 'draft', and 'process_payment' starts from 'queued'.",
    )


class Card(StatefulResource, Base):
    """Its action does as its test says."""

    __tablename__ = "cards"

    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None]
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)

    draw = Trigger.on_demand("card.draw")

    @transition(Step.NEW, Step.QUEUED, run_trigger=draw)
    def queue(self): ...

    @transition([Step.QUEUED, Step.RUNNING], Step.NEW)
    def take_back(self): ...

    @draw.action(Step.QUEUED, Step.DONE, during=Step.RUNNING, failed=Step.FAILED)
    def play(self, ctx: JobContext) -> None:
        ctx.play(self)


class Play:
    """A context that carries the body."""

    def __init__(self, play):
        self.play = play


def queued_card(session, engine):
    make_tables(engine, Base)
    card = Card()
    session.add(card)
    card.queue()
    session.commit()
    return card


def test_the_record_is_in_during_while_its_action_runs(session, engine):
    card = queued_card(session, engine)
    seen = []

    card.play(Play(lambda card: seen.append(card.state)))

    assert seen == [Step.RUNNING]


def test_an_action_that_raises_leaves_the_record_and_its_job(session, engine):
    card = queued_card(session, engine)

    def fail(card):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        card.play(Play(fail))
    session.commit()

    assert card.state is Step.QUEUED
    assert read_history(engine) == [("create", None, "new"), ("queue", "new", "queued")]
    assert [job.state for job in read_jobs(engine)] == ["queued"]


def test_an_action_may_flush_while_it_runs(session, engine):
    card = queued_card(session, engine)

    def flush(card):
        card.note = "flushed"
        session.flush()

    card.play(Play(flush))
    session.commit()

    assert card.state is Step.DONE
    assert read_history(engine)[2:] == [
        ("play.start", "queued", "running"),
        ("play.complete", "running", "done"),
    ]


def test_an_action_that_flushes_and_raises_leaves_a_queued_record_with_a_job(
    session, engine
):
    card = queued_card(session, engine)

    def flush_and_fail(card):
        card.note = "flushed"
        session.flush()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        card.play(Play(flush_and_fail))
    session.commit()

    assert card.state is Step.QUEUED
    assert [job.state for job in read_jobs(engine)] == ["queued"]
    assert read_history(engine)[2:] == [
        ("play.start", "queued", "running"),
        ("play.return", "running", "queued"),
    ]


def test_an_action_of_a_record_that_was_never_flushed_may_flush(session, engine):
    make_tables(engine, Base)
    card = Card()
    session.add(card)
    card.queue()

    card.play(Play(lambda _: session.flush()))
    session.commit()

    assert card.state is Step.DONE
    assert read_jobs(engine) == []


def test_a_transition_inside_the_own_action_is_refused(session, engine):
    card = queued_card(session, engine)

    with pytest.raises(TransitionRefusedError) as refused:
        card.play(Play(lambda card: card.take_back()))

    assert refused.value.reasons == (
        "The job of 'play' runs on it, and its outcome moves the record: "
        "return, raise an error, or raise Cancel, Snooze or Stale.",
    )
    assert card.state is Step.QUEUED


def test_nothing_is_available_while_the_own_action_runs(session, engine):
    card = queued_card(session, engine)
    seen = []

    card.play(
        Play(
            lambda card: seen.append(
                (card.available_transitions(), card.take_back.can())
            )
        )
    )

    assert seen == [((), False)]


# --- steps that never reach the database -----------------------------------------------------


@pytest.mark.parametrize("forget", ["expire", "refresh", "rollback"])
def test_steps_are_dropped_with_the_state_they_led_to(engine, forget):
    order_id = new_order(engine)
    with Session(engine, autoflush=False) as session:
        order = session.get(Order, order_id)
        order.submit()

        session.rollback() if forget == "rollback" else getattr(session, forget)(order)
        session.commit()

        assert order.state is S.DRAFT
    assert read_jobs(engine) == []
    assert read_history(engine) == [("create", None, "draft")]


def test_refreshing_another_attribute_keeps_the_steps(engine):
    order_id = new_order(engine)
    with Session(engine, autoflush=False) as session:
        order = session.get(Order, order_id)
        order.submit()

        session.refresh(order, ["total"])
        session.commit()

        assert order.state is S.QUEUED
    assert len(read_jobs(engine)) == 1


def test_steps_are_dropped_when_the_record_is_read_anew(engine):
    order_id = new_order(engine)
    with Session(engine, autoflush=False) as session:
        order = session.get(Order, order_id)
        order.submit()

        session.get(Order, order_id, populate_existing=True)
        read_again = order.state
        session.commit()

    assert read_again is S.DRAFT
    assert read_jobs(engine) == []


def test_a_deleted_record_takes_its_steps_with_it(engine):
    order_id = new_order(engine)
    with Session(engine) as session:
        order = session.get(Order, order_id)
        order.submit()
        session.delete(order)
        session.commit()

    assert read_jobs(engine) == []
    assert read_history(engine) == [("create", None, "draft")]


def test_a_new_record_that_is_expunged_writes_nothing(session, engine):
    order = Order(total=1)
    session.add(order)
    order.submit()

    session.expunge(order)
    session.commit()

    assert read_jobs(engine) == []


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Light(StatefulResource, Base):
    __tablename__ = "lights"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[Colour] = state_column(Colour, initial=Colour.RED)

    @transition(Colour.RED, Colour.GREEN)
    def go(self): ...

    @transition(Colour.GREEN, Colour.RED)
    def stop(self): ...


def test_a_circle_of_transitions_writes_every_step(session, engine):
    make_tables(engine, Base)
    light = Light()
    session.add(light)
    session.commit()

    light.go()
    light.stop()
    session.commit()

    assert [name for name, _, _ in read_history(engine)] == ["create", "go", "stop"]
    assert (light.state, light.state_version) == (Colour.RED, 2)


def test_what_was_refused_is_not_proposed():
    refused = TransitionRefusedError(
        "retry",
        record="Order 1",
        state="failed",
        reasons=["it needs 'why'."],
        available=["retry", "cancel"],
    )

    assert str(refused).endswith("it needs 'why'. From 'failed' you can: cancel.")
    assert refused.available == ("cancel",)

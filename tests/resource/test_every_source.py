"""`source="*"`: a transition from wherever a record may be, but where a job runs."""

from enum import Enum, StrEnum
from types import MappingProxyType

import pytest
from sqlalchemy import true
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    DefinitionError,
    JobContext,
    StatefulResource,
    TransitionRefusedError,
    Trigger,
    WrongValueError,
    mermaid,
    override_state,
    state_column,
    transition,
)
from tests.support.shop import read_history, shop_engine


class Base(DeclarativeBase): ...


class S(StrEnum):
    DRAFT = "draft"
    QUEUED = "queued"
    RUNNING = "running"
    SENT = "sent"
    HELD = "held"
    OLD = "old"
    FAILED = "failed"
    CLOSED = "closed"


class Holding:
    """A mixin."""

    @transition("*", S.HELD)
    def hold(self) -> None: ...


class Deal(Holding, StatefulResource, Base):
    __tablename__ = "every_deals"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="deal")
    send = Trigger.on_demand("every.send")
    state: Mapped[S] = state_column(
        S, initial=S.DRAFT, final=(S.CLOSED,), deprecated=(S.OLD,)
    )

    __mapper_args__ = MappingProxyType(
        {"polymorphic_on": "kind", "polymorphic_identity": "deal"}
    )

    @transition(S.DRAFT, S.QUEUED, run_trigger=send)
    def submit(self) -> None: ...

    @transition(["*", S.RUNNING, S.HELD], S.HELD)
    def freeze(self) -> None: ...

    @transition(S.HELD, S.HELD)
    def touch(self) -> None: ...

    @transition("*", S.CLOSED, guard=lambda deal: True)
    async def close(self) -> None: ...

    @send.action(S.QUEUED, S.SENT, during=S.RUNNING, failed=S.FAILED)
    def run_send(self, ctx: JobContext) -> None: ...


class BigDeal(Deal):
    __mapper_args__ = MappingProxyType({"polymorphic_identity": "big"})


class Letter(Holding, StatefulResource, Base):
    """Has no action, so nothing runs."""

    __tablename__ = "every_letters"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.DRAFT)


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


EVERY = (S.DRAFT, S.QUEUED, S.SENT, S.FAILED)


def test_it_is_every_state_that_a_record_may_leave_unseen():
    assert Deal.hold.source == EVERY
    assert Deal.close.source == (S.DRAFT, S.QUEUED, S.SENT, S.HELD, S.FAILED)
    assert Deal.__machine__.edge("hold").sources == EVERY


def test_a_state_in_which_a_job_runs_is_left_when_it_is_named():
    assert Deal.freeze.source == (*EVERY, S.RUNNING, S.HELD)


def test_each_class_of_a_mixin_has_its_own():
    assert Letter.hold.source == tuple(state for state in S if state is not S.HELD)
    assert Holding.hold.source == ("*",)


def test_it_fires_from_there_and_from_nowhere_else(engine):
    with Session(engine) as session:
        deal = Deal()
        session.add(deal)
        deal.submit()
        deal.hold()
        deal.touch()
        with pytest.raises(TransitionRefusedError, match="'hold' starts from 'draft'"):
            deal.hold()
        with override_state(deal, reason="a test"):
            deal.state = S.RUNNING
        assert deal.hold.why_not() != ()
        deal.freeze()
        session.commit()

    assert [name for name, *_ in read_history(engine)] == [
        "create",
        "submit",
        "hold",
        "touch",
        "override",
        "freeze",
    ]


def test_bulk_moves_a_class_with_its_subclasses(engine):
    with Session(engine) as session:
        session.add_all([Deal(), BigDeal()])
        session.commit()

        assert Deal.hold.bulk(session, where=true()).moved == 2


def test_the_diagram_has_an_arrow_from_each():
    drawn = mermaid(Deal.__machine__)

    for state in EVERY:
        assert f"{state} --> held : hold, freeze\n" in drawn
    assert "running --> held : freeze\n" in drawn


def test_a_state_may_be_called_like_that():
    class Odd(StrEnum):
        ANY = "*"
        DONE = "done"

    class Thing(StatefulResource, base()):
        state: Mapped[Odd] = state_column(Odd, initial=Odd.ANY)

        @transition(Odd.ANY, Odd.DONE)
        def end(self): ...

    assert Thing.end.source == (Odd.ANY,)


def base():
    class Root(DeclarativeBase): ...

    class Keyed(Root):
        __abstract__ = True
        __tablename__ = "bills"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Keyed


class Two(Enum):
    OPEN = "open"
    PAID = "paid"


def test_nothing_left_is_refused():
    with pytest.raises(DefinitionError, match="transition 'pay': it has no source"):

        class Bill(StatefulResource, base()):
            state: Mapped[Two] = state_column(Two, initial=Two.OPEN, final=[Two.PAID])

            @transition("*", Two.OPEN)
            def pay(self): ...


@pytest.mark.parametrize("source", ["all", ["*", "opn"]])
def test_other_text_is_no_state(source):
    with pytest.raises(DefinitionError, match=r"Bill.pay: source '\w+' is text"):

        class Bill(StatefulResource, base()):
            state: Mapped[Two] = state_column(Two, initial=Two.OPEN)

            @transition(source, Two.PAID)
            def pay(self): ...


# What may come next


def test_the_states_that_are_one_move_away():
    assert Deal.possible_next_states(S.DRAFT) == (S.QUEUED, S.HELD, S.CLOSED)
    assert Deal.possible_next_states(S.QUEUED) == (
        S.RUNNING,
        S.HELD,
        S.FAILED,
        S.CLOSED,
    )
    assert Deal.possible_next_states(S.HELD) == (S.HELD, S.CLOSED)
    assert Deal.possible_next_states(S.CLOSED) == ()


@pytest.mark.parametrize("text", ["draft", "drafft"])
def test_what_is_no_state_has_none(text):
    with pytest.raises(WrongValueError) as refused:
        Deal.possible_next_states(text)

    assert str(refused.value) == (
        f"Deal.possible_next_states: {text!r} is text, not a member of S; "
        "did you mean S.DRAFT?"
    )


@pytest.mark.parametrize("source", ["*", ["*", Two.OPEN], {"*"}])
def test_an_action_names_where_its_records_wait(source):
    pay = Trigger.on_demand("every.pay")

    with pytest.raises(DefinitionError) as refused:
        pay.action(source, Two.PAID)

    assert str(refused.value).splitlines() == [
        "action of trigger 'every.pay': its source is \"*\", which only a transition may have",
        "  why: a record waits for its job in the sources of the action; in any other state the "
        "job is cancelled as left",
        "  fix: name the states in which it waits: action([S.QUEUED, S.HELD], …); to start the "
        'job from everywhere, let a @transition("*", S.QUEUED, run_trigger=…) lead there',
    ]

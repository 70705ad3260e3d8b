"""What cannot run in bulk is refused before anything is written, with what to do."""

import pytest
from sqlalchemy import Enum, String, TypeDecorator, true
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    ArgumentsError,
    BulkError,
    DefinitionError,
    JobContext,
    StatefulResource,
    Trigger,
    guard,
    state_column,
    transition,
)
from tests.resource.support import Step
from tests.support.shop import read_history_rows, shop_engine


class Base(DeclarativeBase): ...


class Pausable:
    """A mixin."""

    @transition(Step.NEW, Step.OLD)
    def pause(self) -> None: ...


class Lower(TypeDecorator):
    impl = String
    cache_ok = True


class Parcel(Pausable, StatefulResource, Base):
    __tablename__ = "bulk_parcels"

    id: Mapped[int] = mapped_column(primary_key=True)
    weight: Mapped[int] = mapped_column(default=1)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)

    send = Trigger.on_demand("bulk.send", args=lambda parcel: {"weight": parcel.weight})

    def is_light(self) -> bool:
        """Too heavy."""
        return self.weight < 9

    @guard(sql=lambda parcel: parcel.weight is not None)
    def is_weighed(self) -> bool:
        """Not on the scales yet."""
        return self.weight is not None

    @transition(Step.NEW, Step.OLD, guard=is_light)
    def shelve(self) -> None: ...

    @transition(Step.NEW, Step.OLD, guard=is_weighed)
    def weigh(self) -> None: ...

    @transition(Step.NEW, Step.OLD)
    def note(self) -> None:
        """Its body does something."""
        self.weight = 2

    @transition(Step.NEW, Step.OLD)
    def count(self) -> int:
        return 3

    @transition(Step.NEW, Step.OLD)
    def drop(self, reason: str) -> None: ...

    @transition(Step.NEW, Step.QUEUED, run_trigger=send)
    def post(self) -> None: ...

    @send.action(Step.QUEUED, Step.DONE)
    def deliver(self, ctx: JobContext, weight: int) -> None: ...


class Box(Parcel):
    """Redeclares a transition of its base."""

    @transition(Step.NEW, Step.DONE)
    def drop(self, reason: str) -> None: ...


class Odd(StatefulResource, Base):
    __tablename__ = "bulk_odd"

    id: Mapped[str] = mapped_column(Lower, primary_key=True)
    kind: Mapped[Step] = mapped_column(Enum(Step), primary_key=True)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)

    @transition(Step.NEW, Step.DONE)
    def end(self) -> None: ...


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        with Session(opened) as session:
            session.add_all([Parcel(), Odd(id="a", kind=Step.NEW)])
            session.commit()
        yield opened


REFUSALS = [
    (
        Parcel.shelve,
        {},
        ["Parcel.shelve.bulk", "'is_light' has no SQL form", "@guard(sql="],
    ),
    (Parcel.weigh, {}, ["guard 'is_weighed' returned True", "condition on columns"]),
    (Parcel.note, {}, ["Parcel.note.bulk", "body is Python code", "values={}"]),
    (Parcel.count, {}, ["body is Python code"]),
    (Parcel.drop, {"args": {"reason": "x"}}, ["for a Box", "Box first"]),
    (Pausable.pause, {}, ["Pausable is not a resource"]),
    (
        Parcel.pause,
        {"values": {"wieght": 1}},
        ["cannot set 'wieght'", "did you mean 'weight'"],
    ),
    (
        Parcel.pause,
        {"values": {"state": Step.DONE}},
        ["cannot set 'state'", "leave it out"],
    ),
    (Parcel.pause, {"values": {Parcel.id: 9}}, ["cannot set 'id'"]),
    (
        Odd.end,
        {},
        ["Odd.end.bulk", "key column 'id' is Lower", "integers, text and UUIDs"],
    ),
]


@pytest.mark.parametrize(("bulk", "options", "parts"), REFUSALS)
def test_it_says_what_where_why_and_what_to_do(engine, bulk, options, parts):
    with Session(engine) as session, pytest.raises(BulkError) as error:
        bulk.bulk(session, where=true(), **options)

    message = str(error.value)
    for part in (*parts, "why: ", "fix: "):
        assert part in message
    assert [row.name for row in read_history_rows(engine)] == ["create", "create"]


def test_arguments_that_do_not_fit_are_refused(engine):
    with Session(engine) as session:
        with pytest.raises(ArgumentsError, match=r"Box.drop: argument 'reason'"):
            Box.drop.bulk(session, where=true())
        with pytest.raises(ArgumentsError, match="'raeson' is unknown"):
            Box.drop.bulk(session, where=true(), args={"raeson": "x"})


def test_an_sql_form_must_be_a_function():
    with pytest.raises(DefinitionError, match="not a function"):
        guard(sql=True)


def test_a_guard_with_an_sql_form_is_still_asked_of_one_record():
    assert Parcel(weight=1).weigh.why_not() == ()
    heavy = Parcel()
    heavy.weight = None
    assert heavy.weigh.why_not() == ("Not on the scales yet.",)

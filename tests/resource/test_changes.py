"""`changes=`: what transitions and actions change beside their bodies, in Python and in SQL."""

import asyncio
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

import pytest
from sqlalchemy import JSON, String, TypeDecorator, select, true
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    AsyncJobContext,
    BulkError,
    Change,
    ChangeContext,
    ChunkContext,
    DefinitionError,
    Domain,
    JobContext,
    Sources,
    StatefulResource,
    StateJobs,
    StateJobsError,
    Trigger,
    UtcDateTime,
    WrongValueError,
    acting_as,
    increment,
    set_to,
    stamp,
    state_column,
    tenant,
    transition,
    utcnow,
)
from statejobs.record.ledger import CLOCK
from tests.resource.support import Step
from tests.support.shop import StoppedClock, read_history_rows, shop_engine


class Base(DeclarativeBase): ...


class S(StrEnum):
    DRAFT = "draft"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


def note_who(bill, ctx):
    bill.note = f"{ctx.actor} {ctx.tenant}"


def drop(bill, ctx):
    raise ValueError("not this one")


async def run_late(*given): ...


who = Change(apply=note_who)
tag_it = Change(
    apply=lambda bill, ctx: bill.tags.append("x"),
    sql=lambda cls, now: {"tegs": ["x"]},
    name="tag",
)


class Bill(StatefulResource, Base):
    __tablename__ = "changed_bills"

    id: Mapped[int] = mapped_column(primary_key=True)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    local: Mapped[datetime | None]
    day: Mapped[date | None]
    times: Mapped[int | None]
    total: Mapped[Decimal] = mapped_column(default=Decimal(0))
    coupon: Mapped[str | None]
    note: Mapped[str | None]
    tags: Mapped[list[str]] = mapped_column(JSON, default=list)
    state: Mapped[S] = state_column(S, initial=S.DRAFT)

    charge = Trigger.on_demand("changed.charge")
    mail = Trigger.on_demand("changed.mail")
    score = Trigger.on_demand("changed.score", chunk=10)
    spoil = Trigger.on_demand("changed.spoil", max_attempts=1)

    @transition(
        S.DRAFT,
        S.QUEUED,
        changes=(
            stamp("sent_at"),
            stamp("local"),
            stamp("day"),
            increment("times"),
            increment("total", Decimal("0.5")),
            set_to("coupon", "MAY"),
        ),
        run_trigger=charge,
    )
    def send(self) -> None: ...

    @transition(S.DRAFT, S.DONE, changes=[set_to("tags", ["new"]), tag_it])
    def tag(self) -> None:
        self.tags = ["old"]

    @transition(S.DRAFT, S.DONE, changes=who)
    def sign(self) -> None:
        self.note = "unsigned"

    @transition(S.DRAFT, S.DONE, changes=stamp("sent_at"))
    async def await_it(self) -> None:
        assert self.sent_at is None

    @transition(S.DRAFT, S.DONE, changes=Change(apply=drop))
    def lose(self) -> None: ...

    @transition(S.DRAFT, S.DONE, changes=Change(apply=lambda bill, ctx: run_late()))
    def forget(self) -> None: ...

    @transition(S.DONE, S.DONE, changes=increment("times"))
    def remind(self) -> None: ...

    @charge.action(
        S.QUEUED,
        S.DONE,
        during=S.RUNNING,
        failed=S.FAILED,
        changes=(stamp("sent_at"), increment("times", 10)),
    )
    def run_charge(self, ctx: JobContext, *, fails: bool = False) -> None:
        self.coupon = None
        if fails:
            raise ValueError("declined")

    @mail.action(S.DRAFT, S.DONE, changes=(increment("times"), who))
    async def run_mail(self, ctx: AsyncJobContext) -> None:
        self.coupon = "mailed"

    @score.action(S.DRAFT, S.DONE, failed=S.FAILED, changes=increment("times"))
    @staticmethod
    def score_all(bills: list["Bill"], ctx: ChunkContext) -> None:
        for bill in bills:
            if bill.coupon == "bad":
                ctx.cancel(bill, "no")

    @spoil.action(S.DRAFT, S.DONE, failed=S.FAILED, changes=Change(apply=drop))
    def run_spoil(self, ctx: JobContext) -> None:
        self.coupon = "spoilt"


@pytest.fixture
def clock():
    return StoppedClock()


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


@pytest.fixture
def session(engine, clock):
    with Session(engine, info={CLOCK: clock}) as opened:
        yield opened


@pytest.fixture
def app(engine, clock):
    domains = [Domain("bills", resources=[Bill])]
    with StateJobs(engine, domains=domains, sources=Sources(clock=clock)) as opened:
        yield opened


def values(bill):
    return (bill.sent_at, bill.local, bill.day, bill.times, bill.total, bill.coupon)


def sent(at, times=1):
    naive = at.replace(tzinfo=None)
    return (at, naive, at.date(), times, Decimal("0.5"), "MAY")


def test_what_comes_with_it_changes_one_record(session, clock):
    bill = Bill()
    session.add(bill)

    bill.send()
    session.commit()
    session.expire_all()

    assert values(bill) == sent(clock.now())


def test_bulk_writes_the_same(engine, session, clock):
    session.add_all([Bill(), Bill(times=4)])
    session.commit()
    clock.advance(hours=30)

    assert Bill.send.bulk(session, where=true()).moved == 2
    session.commit()

    found = session.scalars(select(Bill).order_by(Bill.id)).all()
    assert [values(bill) for bill in found] == [sent(clock.now()), sent(clock.now(), 5)]


def test_records_that_the_session_holds_show_what_bulk_changed(session, clock):
    bill = Bill(times=1)
    session.add(bill)
    session.commit()

    Bill.send.bulk(session, where=true())

    assert values(bill) == sent(clock.now(), 2)


def test_they_come_after_the_body_in_their_order():
    one, other = Bill(), Bill()

    for bill in (one, other):
        bill.tag()

    assert one.tags == other.tags == ["new", "x"]
    assert one.tags is not other.tags


def test_a_change_is_told_who_acts_and_for_whom():
    bill = Bill()

    with acting_as("ada"), tenant("acme"):
        bill.sign()

    assert bill.note == "ada acme"


def test_an_async_transition_changes_after_its_body(clock):
    bill = Bill()

    asyncio.run(bill.await_it())

    assert utcnow() - bill.sent_at < timedelta(minutes=5)
    assert bill.state is S.DONE


def test_one_that_raises_keeps_the_record_where_it_is():
    bill = Bill()

    with pytest.raises(ValueError, match="not this one"):
        bill.lose()

    assert bill.state is S.DRAFT


def test_one_whose_body_was_not_run_says_so():
    with pytest.raises(StateJobsError, match="change '<lambda>' returned a coroutine"):
        Bill().forget()


def test_a_self_transition_changes_too(session):
    bill = Bill()
    session.add(bill)
    bill.sign()
    bill.remind()
    bill.remind()
    session.commit()

    assert (bill.times, bill.state_version) == (2, 1)


# Actions


def test_an_action_changes_its_record_when_it_completes(app, engine, session, clock):
    bill = Bill()
    session.add(bill)
    bill.send()
    session.commit()
    clock.advance(hours=1)

    app.drain(raise_errors=True)

    session.refresh(bill)
    assert (bill.state, bill.times, bill.coupon) == (S.DONE, 11, None)
    assert bill.sent_at == clock.now()
    assert bill.sent_at == read_history_rows(engine)[-1].at


def test_an_attempt_that_fails_changes_nothing(app, session, clock):
    bill = Bill()
    session.add(bill)
    bill.send()
    Bill.run_charge.enqueue(session, bill, fails=True)
    session.commit()

    app.drain()

    session.refresh(bill)
    assert values(bill) == sent(clock.now())


def test_an_async_action_changes_its_record(app, session):
    bill = Bill()
    session.add(bill)
    with acting_as("ada"), tenant("acme"):
        Bill.run_mail.enqueue(session, bill)
    session.commit()

    app.drain(raise_errors=True)

    session.refresh(bill)
    assert (bill.times, bill.coupon, bill.note) == (1, "mailed", "ada acme")


def test_a_chunk_changes_the_records_that_complete(app, session):
    bills = [Bill(), Bill(coupon="bad"), Bill(times=2)]
    session.add_all(bills)
    Bill.score_all.enqueue_many(session, bills)
    session.commit()

    app.drain(raise_errors=True)

    for bill in bills:
        session.refresh(bill)
    assert [(bill.state, bill.times) for bill in bills] == [
        (S.DONE, 1),
        (S.FAILED, None),
        (S.DONE, 3),
    ]


def test_a_change_that_raises_fails_the_attempt(app, session):
    bill = Bill()
    session.add(bill)
    Bill.run_spoil.enqueue(session, bill)
    session.commit()

    drained = app.drain()

    session.refresh(bill)
    assert drained.counts == {"discard": 1}
    assert (bill.state, bill.coupon) == (S.FAILED, None)


def test_an_action_that_is_called_directly_changes_its_record(session, clock):
    bill = Bill()
    session.add(bill)
    bill.send()

    bill.run_charge(None)
    session.commit()

    assert (bill.state, bill.times) == (S.DONE, 11)


def test_a_change_that_raises_takes_a_direct_call_back(session):
    bill = Bill()
    session.add(bill)
    session.flush()

    with pytest.raises(ValueError, match="not this one"):
        bill.run_spoil(None)
    bill.send()

    assert bill.state is S.QUEUED


# The machine


def test_the_machine_names_changes():
    spec = Bill.__machine__

    assert spec.edge("send").changes == (
        "stamp('sent_at')",
        "stamp('local')",
        "stamp('day')",
        "increment('times')",
        "increment('total')",
        "set_to('coupon', 'MAY')",
    )
    assert spec.edge("run_charge.complete").changes[0] == "stamp('sent_at')"
    assert spec.edge("run_charge.start").changes == ()
    assert spec.edge("sign").changes == ("note_who",)


# What is refused


def test_bulk_refuses_a_change_without_an_sql_form_by_its_name(session):
    with pytest.raises(BulkError) as refused:
        Bill.sign.bulk(session, where=true(), values={})

    assert str(refused.value).splitlines() == [
        "Bill.sign.bulk: its change note_who has no SQL form",
        "  why: bulk reads no record",
        "  fix: give the Change one: sql=lambda cls, now: {'coupon': None}",
    ]


def test_bulk_refuses_what_a_change_cannot_set(session):
    with pytest.raises(BulkError, match="its change tag cannot set 'tegs'") as refused:
        Bill.tag.bulk(session, where=true(), values={})

    assert "did you mean 'tags'" in str(refused.value)


def base():
    class Root(DeclarativeBase): ...

    class Keyed(Root):
        __abstract__ = True
        __tablename__ = "bills"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Keyed


def refusal(changes):
    with pytest.raises(DefinitionError) as refused:

        class Order(StatefulResource, base()):
            charged_at: Mapped[datetime | None]
            note: Mapped[str | None]
            state: Mapped[Step] = state_column(Step, initial=Step.NEW)

            @transition(Step.NEW, Step.OLD, changes=changes)
            def pay(self): ...

    return str(refused.value).splitlines()


@pytest.mark.parametrize(
    ("changes", "what", "fix"),
    [
        (
            stamp("charged_att"),
            "Order.pay: its change stamp('charged_att') sets 'charged_att', "
            "which is no column that it may set",
            "did you mean 'charged_at'?",
        ),
        (
            increment("id"),
            "Order.pay: its change increment('id') sets 'id', which is no column that it may set",
            "known: charged_at, note",
        ),
        (
            [stamp("charged_at"), set_to("state", Step.OLD)],
            "Order.pay: its change set_to('state', <Step.OLD: 'old'>) sets 'state', "
            "which is no column that it may set",
            "known: charged_at, note",
        ),
        (
            stamp("note"),
            "Order.pay: its change stamp('note') sets 'note', which holds no time: "
            "it is a String",
            "name a column that holds a time; set_to('note', …) sets any value",
        ),
        (
            increment("charged_at"),
            "Order.pay: its change increment('charged_at') sets 'charged_at', "
            "which holds no number: it is a DateTime",
            "name a column that holds a number; set_to('charged_at', …) sets any value",
        ),
        (
            stamp,
            "Order.pay: its change stamp is a function, not a Change",
            'call it: changes=stamp("charged_at")',
        ),
        (
            "charged_at",
            "Order.pay: its change 'charged_at' is a str, not a Change",
            'give stamp("charged_at"), or a Change(apply=…, sql=…)',
        ),
    ],
)
def test_what_cannot_be_changed_is_refused(changes, what, fix):
    lines = refusal(changes)

    assert lines[0] == what
    assert lines[2] == f"  fix: {fix}"


def test_an_action_of_a_class_is_refused_as_well():
    with pytest.raises(DefinitionError, match=r"Order.run_pay: its change stamp"):

        class Order(StatefulResource, base()):
            state: Mapped[Step] = state_column(Step, initial=Step.NEW)
            pay = Trigger.on_demand("refused.pay")

            @pay.action(Step.NEW, Step.OLD, changes=stamp("charged_at"))
            def run_pay(self, ctx: JobContext): ...


class Stored(TypeDecorator):
    """A type of the user's own, which says not what its values are."""

    impl = String
    cache_ok = True


def test_a_column_that_may_hold_a_time_is_taken():
    class Order(StatefulResource, base()):
        noted_at: Mapped[datetime] = mapped_column(Stored)
        day: Mapped[date]
        at: Mapped[datetime] = mapped_column(UtcDateTime)
        seen: Mapped[object] = mapped_column(JSON)
        state: Mapped[Step] = state_column(Step, initial=Step.NEW)

        @transition(
            Step.NEW,
            Step.OLD,
            changes=[stamp(n) for n in ("noted_at", "day", "at", "seen")],
        )
        def pay(self): ...

    assert len(Order.pay.spec.changes) == 4


def test_a_record_that_is_deleted_keeps_no_change():
    pay = Trigger.on_demand("refused.pay")

    with pytest.raises(DefinitionError) as refused:
        pay.action(Step.NEW, deletes=True, changes=stamp("charged_at"))

    assert str(refused.value).splitlines() == [
        "action of trigger 'refused.pay': it has changes, and deletes its record",
        "  why: a record that is gone keeps nothing",
        "  fix: leave out changes, or deletes=True",
    ]


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (
            lambda: Change(apply=lambda bill: None),
            "Change(apply=…): it cannot be called: too many positional arguments",
        ),
        (lambda: Change(apply=run_late), "Change(apply=…): it is async"),
        (
            lambda: Change(apply=note_who, sql=lambda cls: {}),
            "Change(sql=…): it cannot be called: too many positional arguments",
        ),
        (
            lambda: Change(apply=note_who, attributes="note"),
            "Change(attributes=…) takes a collection, not 'note' alone",
        ),
        (lambda: stamp(5), "stamp(attribute) must be text, not 5"),
        (
            lambda: increment("times", "2"),
            "increment('times'): by must be a number, not '2'",
        ),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(make, what):
    with pytest.raises((DefinitionError, WrongValueError)) as refused:
        make()

    assert str(refused.value).startswith(what)


def test_a_test_can_apply_one():
    bill = Bill()

    who.apply(bill, ChangeContext(now=utcnow(), actor="ada"))

    assert bill.note == "ada None"

"""What `Trigger.scheduled` and `Trigger.hybrid` declare, and what they refuse in which words."""

import inspect
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from sqlalchemy import ForeignKey, Integer, cast, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    aliased,
    mapped_column,
    relationship,
)

from statejobs import (
    Defaults,
    DefinitionError,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    StateJobsError,
    Trigger,
    UtcDateTime,
    ago,
    everything,
    mermaid,
    state_column,
    task,
    transition,
    utcnow,
)
from statejobs.record.candidates import candidates_of
from tests.resource.support import Step


class Base(DeclarativeBase): ...


DAILY = {"cron": "0 3 * * *", "where": everything}


def bill(trigger=Trigger.scheduled, name="Bill", **options):
    """A resource whose trigger ticks; `where=lambda cls: …` speaks of it."""

    class Own(DeclarativeBase): ...

    class Payer(Own):
        __tablename__ = "payers"
        id: Mapped[int] = mapped_column(primary_key=True)
        is_late: Mapped[bool]

    expire = trigger("bill.expire", **{**DAILY, **options})

    def drop(self, ctx: JobContext) -> None: ...

    names = {
        "__tablename__": f"{name.lower()}s",
        "__annotations__": {
            "id": Mapped[int],
            "total": Mapped[int],
            "paid": Mapped[bool],
            "sent_at": Mapped[datetime],
            "payer_id": Mapped[int],
            "payer": Mapped[Payer],
            "state": Mapped[Step],
        },
        "id": mapped_column(primary_key=True),
        "total": mapped_column(Integer),
        "sent_at": mapped_column(UtcDateTime),
        "payer_id": mapped_column(ForeignKey(Payer.id)),
        "payer": relationship(Payer),
        "state": state_column(Step, initial=Step.NEW),
        "expire": expire,
        "drop": expire.action([Step.NEW, Step.QUEUED], Step.OLD)(drop),
    }
    return type(name, (StatefulResource, Own), names)


def payer_of(cls):
    """The class of who pays a bill."""
    return cls.payer.property.entity.class_


def app_of(*resources, url="postgresql+psycopg://nobody@nowhere/none"):
    """An app that asks no database."""
    return StateJobs(url, domains=[Domain("shop", resources=resources)])


def said(refused):
    return str(refused.value).splitlines()


def refusal(**options):
    """What is said when a class is made with these options, a part on each line."""
    with pytest.raises(StateJobsError) as refused:
        Trigger.scheduled("bill.expire", **options)
    return said(refused)


def refusal_of_app(**options):
    """What is said when an app is made of a class with these options."""
    resource = bill(**options)
    with pytest.raises(DefinitionError) as refused:
        app_of(resource)
    return said(refused)


# --- what is kept ---------------------------------------------------------------------------------


def test_a_scheduled_trigger_takes_every_option_of_one_on_demand():
    on_demand = inspect.signature(Trigger.on_demand).parameters
    scheduled = inspect.signature(Trigger.scheduled).parameters

    assert on_demand.keys() < scheduled.keys()
    assert inspect.signature(Trigger.hybrid) == inspect.signature(Trigger.scheduled)


def test_its_options_are_part_of_the_machine():
    resource = bill(limit=10, queue="low", spread=timedelta(minutes=5))
    (trigger,) = resource.__machine__.triggers

    assert trigger.options.limit == 10
    assert trigger.options.spread == timedelta(minutes=5)
    assert trigger.options.batch == 10_000
    assert (trigger.queue, trigger.origins["queue"]) == ("low", "option")
    assert trigger.schedule is not None
    assert trigger.schedule.cron.zone == "UTC"
    assert trigger.schedule.catch_up == "last"


def test_a_domain_gives_it_defaults():
    resource = bill()
    Domain("shop", resources=[resource], defaults=Defaults(queue="nightly"))

    (trigger,) = resource.__machine__.triggers
    assert (trigger.queue, trigger.origins["queue"]) == ("nightly", "domain shop")
    assert trigger.schedule is not None


def test_one_on_demand_has_no_schedule():
    assert Trigger.on_demand("a.b").spec.schedule is None


def test_the_diagram_says_when_it_ticks():
    resource = bill(cron="0 9 * * 1-5", timezone="Europe/Prague")
    words = resource.__machine__.triggers[0].schedule.cron.in_words()
    drawn = mermaid(resource.__machine__)

    assert "Prague" in words
    assert f"complete drop ⏰ {words.replace(':', '#58;')}\n" in drawn


def test_the_diagram_says_so_where_the_job_begins():
    class Parcel(StatefulResource, Base):
        __tablename__ = "parcels"
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[Step] = state_column(Step, initial=Step.NEW)
        send = Trigger.scheduled("parcel.send", **DAILY)

        @send.action(Step.NEW, Step.DONE, during=Step.RUNNING, failed=Step.FAILED)
        def do_send(self, ctx: JobContext) -> None: ...

    assert [
        line for line in mermaid(Parcel.__machine__).splitlines() if "⏰" in line
    ] == ["    new --> running : start do_send ⏰ at 03#58;00 every day (UTC)"]


@pytest.mark.parametrize("url", ["sqlite:///{}/app.db", "postgresql+psycopg://n@n/n"])
def test_conditions_that_may_be_said(url, tmp_path):
    conditions = [
        everything,
        lambda cls: cls.paid,
        lambda cls: cls.total > 3,
        lambda cls: cls.payer.has(is_late=True),
        lambda cls: cls.payer_id.in_(select(payer_of(cls).id)),
        lambda cls: cls.sent_at < ago(hours=24),
        lambda _cls: text("total > 3"),
        lambda _cls=None: text("total > 3"),
    ]
    for condition in conditions:
        resource = bill(where=condition)

        app_of(resource, url=url.format(tmp_path)).close()


def test_a_where_without_arguments_knows_its_class_by_name():
    resource = bill(where=lambda: resource.total > 3)
    app_of(resource)

    assert conditions_of(resource) == [
        "bills.state IN ('new', 'queued')",
        "bills.total > 3",
    ]


def test_each_class_of_a_mixin_has_a_schedule_of_its_own():
    class Expiring:
        expire = Trigger.scheduled(
            "{resource}.expire",
            cron="@daily",
            where=lambda cls: cls.total > 3,
            limit=5,
            order_by=lambda cls: [cls.total.desc(), cls.id],
        )

        @expire.action(Step.NEW, Step.OLD)
        def drop(self, ctx: JobContext) -> None: ...

    class Letter(Expiring, StatefulResource, Base):
        __tablename__ = "letters"
        id: Mapped[int] = mapped_column(primary_key=True)
        total: Mapped[int]
        state: Mapped[Step] = state_column(Step, initial=Step.NEW)

    class Card(Expiring, StatefulResource, Base):
        __tablename__ = "cards"
        id: Mapped[int] = mapped_column(primary_key=True)
        total: Mapped[int]
        state: Mapped[Step] = state_column(Step, initial=Step.NEW)

    app_of(Letter, Card)

    assert list(Letter.__statejobs__.triggers) == ["letter.expire"]
    assert conditions_of(Card) == ["cards.state IN ('new')", "cards.total > 3"]
    (bound,) = Letter.__statejobs__.triggers.values()
    order = candidates_of(Letter.__statejobs__, bound).order_by
    assert list(map(str, order)) == ["letters.total DESC", "letters.id"]


def test_a_subclass_is_asked_as_itself():
    class Doc(StatefulResource, Base):
        __tablename__ = "docs"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        total: Mapped[int]
        state: Mapped[Step] = state_column(Step, initial=Step.NEW)
        __mapper_args__: ClassVar[Any] = {
            "polymorphic_on": "kind",
            "polymorphic_identity": "doc",
        }
        expire = Trigger.scheduled(
            "doc.expire", cron="@daily", where=lambda: Doc.total > 3
        )

        @expire.action(Step.NEW, Step.OLD)
        def drop(self, ctx: JobContext) -> None: ...

    class Contract(Doc):
        __tablename__ = "contracts"
        id: Mapped[int] = mapped_column(ForeignKey(Doc.id), primary_key=True)
        __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "contract"}

    app_of(Doc)

    assert conditions_of(Contract) == ["docs.state IN ('new')", "docs.total > 3"]


def conditions_of(resource):
    model = resource.__statejobs__
    (bound,) = model.triggers.values()
    shown = candidates_of(model, bound).conditions
    return [str(one.compile(compile_kwargs={"literal_binds": True})) for one in shown]


# --- who may ask for its jobs ---------------------------------------------------------------------


@pytest.mark.parametrize("later", [False, True])
def test_no_run_trigger_names_a_scheduled_trigger(later):
    expire = Trigger.scheduled("bill.expire", **DAILY)
    run = expire.after(days=3) if later else expire

    with pytest.raises(DefinitionError) as refused:

        class Slip(StatefulResource, Base):
            __tablename__ = "slips"
            id: Mapped[int] = mapped_column(primary_key=True)
            state: Mapped[Step] = state_column(Step, initial=Step.NEW)
            drop_it = expire

            @drop_it.action(Step.QUEUED, Step.OLD)
            def drop(self, ctx: JobContext) -> None: ...

            @transition(Step.NEW, Step.QUEUED, run_trigger=run)
            def submit(self) -> None: ...

    assert said(refused) == [
        "Slip.submit: its run_trigger 'bill.expire' is scheduled only",
        "  why: its jobs are made by ticks, of the records for which its where= holds",
        "  fix: declare it with Trigger.hybrid, which takes both",
    ]


def test_run_trigger_may_name_a_hybrid_one():
    class Note(StatefulResource, Base):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)
        remind = Trigger.hybrid("note.remind", **DAILY)
        state: Mapped[Step] = state_column(
            Step, initial=Step.NEW, run_trigger=remind.after(days=3)
        )

        @remind.action(Step.NEW)
        def do_remind(self, ctx: JobContext) -> None: ...

    assert [promise.key for promise in Note.__machine__.initial_runs] == ["note.remind"]
    assert Note.__machine__.triggers[0].schedule is not None


# --- what is refused when the class is made -------------------------------------------------------


def test_a_schedule_without_where():
    assert refusal(cron="@daily") == [
        "trigger 'bill.expire': it has no where=",
        "  why: each tick would pick every record in a source of its action",
        "  fix: say where=lambda: Order.created_at < ago(hours=24); or where=everything, "
        "if each of them is meant",
    ]


def test_a_schedule_without_cron():
    assert refusal(where=everything) == [
        "trigger 'bill.expire': it has no cron=",
        "  why: it says when records are picked",
        '  fix: say cron="*/10 * * * *", or declare it with Trigger.on_demand',
    ]


def test_a_cron_that_is_nearly_right_says_what_was_meant_and_when_that_would_tick():
    (line,) = refusal(cron="*/10 * * * * *", where=everything)

    assert line.startswith(
        "trigger 'bill.expire': cron: '*/10 * * * * *' has six fields"
    )
    assert "did you mean '*/10 * * * *', next at 2" in line


@pytest.mark.parametrize("cron", ["61 * * * *", "0 0 31 2 *", "never", "", "@reboot"])
def test_a_cron_that_is_none(cron):
    line, *_ = refusal(cron=cron, where=everything)

    assert line.startswith("trigger 'bill.expire': cron: ")


def test_a_cron_that_is_no_text():
    assert refusal(cron=5, where=everything) == [
        "trigger 'bill.expire': cron must be text, not 5; say '0 */6 * * *'"
    ]


def test_a_zone_that_nobody_knows():
    (line,) = refusal(**DAILY, timezone="Europe/Pragu")

    assert line.startswith("trigger 'bill.expire': cron: no time zone 'Europe/Pragu'")
    assert line.endswith("did you mean 'Europe/Prague'?")


def test_a_zone_that_is_no_name():
    assert refusal(**DAILY, timezone=UTC) == [
        "trigger 'bill.expire': timezone must be text, not datetime.timezone.utc; "
        "say 'Europe/Prague'"
    ]


def test_a_misspelt_policy():
    assert refusal(**DAILY, catch_up="al") == [
        "trigger 'bill.expire': catch_up='al'",
        "  why: it is one of 'none', 'last', 'all'",
        "  fix: did you mean 'all'?",
    ]


def test_a_where_that_cannot_be_called():
    assert refusal(cron="@daily", where=text("total > 3")) == [
        "trigger 'bill.expire': where= is a TextClause, which cannot be called",
        "  why: it is asked for the condition in SQL",
        "  fix: where=lambda: Order.created_at < ago(hours=24); in a mixin, a function of "
        "the class",
    ]


def test_a_where_of_two_arguments():
    line, *_ = refusal(cron="@daily", where=lambda cls, now: cls.total > now)

    assert line == (
        "trigger 'bill.expire': where= cannot be called: missing a required argument: 'cls'"
    )


def test_a_where_that_is_async():
    async def where():
        return everything()

    line, *_ = refusal(cron="@daily", where=where)

    assert line == "trigger 'bill.expire': where= is async"


def test_an_order_without_a_limit():
    assert refusal(**DAILY, order_by=lambda cls: cls.total) == [
        "trigger 'bill.expire': order_by= is given, and no limit=",
        "  why: it says which records come first of those that a tick may pick",
        "  fix: say limit=10000, or leave out order_by=",
    ]


def test_an_order_of_more_than_one_statement_sorts():
    assert refusal(**DAILY, order_by=lambda cls: cls.total, limit=10_001) == [
        "trigger 'bill.expire': order_by= is given, and limit=10001",
        "  why: one statement sorts what a tick picks, and so holds all of it",
        "  fix: say limit=10000 or less, or leave out order_by=",
    ]


def test_calls_that_no_tick_could_fill():
    assert refusal(**DAILY, chunk=11, limit=10) == [
        "trigger 'bill.expire': chunk=11 is more than limit=10",
        "  why: no tick would make the jobs for one call of the action",
        "  fix: say chunk=10, or limit=11",
    ]


@pytest.mark.parametrize("name", ["limit", "batch"])
@pytest.mark.parametrize("value", [0, -1, "10", 2.5, True])
def test_a_number_of_records_that_is_none(name, value):
    line, *_ = refusal(**DAILY, **{name: value})

    assert line == f"trigger 'bill.expire': {name}={value!r}"


def test_a_spread_of_no_time():
    assert refusal(**DAILY, spread=timedelta()) == [
        "trigger 'bill.expire': spread=0:00:00",
        "  why: it is the time over which the jobs of a tick are spread",
        "  fix: give a positive timedelta, or leave it out",
    ]


def test_a_spread_without_a_unit():
    assert refusal(**DAILY, spread=60) == [
        "trigger 'bill.expire': spread must be a timedelta, not 60; "
        "say timedelta(seconds=60)"
    ]


@pytest.mark.parametrize("name", ["were", "options", "catchup"])
def test_an_option_that_there_is_not(name):
    line, *_ = refusal(**DAILY, **{name: everything})

    assert line.startswith("Trigger.scheduled() in test_schedule_definitions.py, line ")
    assert line.endswith(f": unknown option {name!r}")


def test_an_action_that_needs_what_no_tick_gives():
    class Memo(StatefulResource, Base):
        __tablename__ = "memos"
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[Step] = state_column(Step, initial=Step.NEW)
        remind = Trigger.scheduled("memo.remind", **DAILY)

        @remind.action(Step.NEW)
        def do_remind(self, ctx: JobContext, copies: int) -> None: ...

    with pytest.raises(DefinitionError) as refused:
        app_of(Memo)

    line, why, _ = said(refused)
    assert line.startswith(
        "Memo.remind: its args= do not fit the action: argument 'copies'"
    )
    assert why == (
        "  why: each tick passes these arguments, so every job of it would fail"
    )


# --- what is refused when the app is made ---------------------------------------------------------


def test_a_where_that_names_another_class():
    lines = refusal_of_app(where=lambda cls: (cls.total > 3) & payer_of(cls).is_late)

    assert lines == [
        "Bill.expire: its where= or order_by= names payers without a join",
        "  why: each Bill would be paired with each row of it",
        "  fix: ask by a subquery: where=lambda: Order.customer.has(Customer.is_vip), or "
        "Order.customer_id.in_(select(Customer.id).where(…))",
    ]


def test_a_where_that_names_an_alias():
    line, *_ = refusal_of_app(where=lambda cls: aliased(cls).total > 3)

    assert line == "Bill.expire: its where= or order_by= names bills without a join"


def test_an_order_by_another_class():
    line, *_ = refusal_of_app(order_by=lambda cls: payer_of(cls).id, limit=5)

    assert line == "Bill.expire: its where= or order_by= names payers without a join"


def test_a_where_that_is_true():
    assert refusal_of_app(where=lambda: True) == [
        "Bill.expire: its where= returned True, which is no SQL",
        "  why: the database picks the records for which it is true",
        "  fix: use operators that make SQL: ==, <, &, |, ~, .is_(None), .in_([…]); "
        "or where=everything, if each of them is meant",
    ]


@pytest.mark.parametrize("returned", [None, "total > 3", StatefulResource, select(1)])
def test_a_where_that_is_no_sql(returned):
    line, *_ = refusal_of_app(where=lambda: returned)

    assert line.startswith("Bill.expire: its where= returned ")
    assert line.endswith(", which is no SQL")


def test_a_where_that_is_no_condition():
    line, *_ = refusal_of_app(where=lambda cls: cls.total)

    assert line == (
        "Bill.expire: its where= returned bills.total, which is INTEGER, and no condition"
    )


def test_a_where_that_raises():
    assert refusal_of_app(where=lambda cls: cls.totl > 3) == [
        "Bill.expire: its schedule cannot be asked for: AttributeError: type object 'Bill' "
        "has no attribute 'totl'",
        "  why: where= and order_by= say of which records each tick makes jobs",
        "  fix: where=lambda: Order.created_at < ago(hours=24)",
    ]


def test_a_where_that_reads_the_clock_when_it_is_asked():
    lines = refusal_of_app(
        where=lambda cls: cls.sent_at < utcnow() - timedelta(hours=24)
    )

    assert lines == [
        "Bill.expire: its where= returned another value when it was asked again",
        "  why: it is asked once, when the app is made: the time of that, or a chance, "
        "would hold for every tick",
        "  fix: compare with ago(hours=24), or with func.random(), which the database asks",
    ]


def test_a_where_may_have_values_that_stay():
    at = datetime(2026, 1, 1, tzinfo=UTC)

    app_of(bill(where=lambda cls: (cls.sent_at > at) & cls.total.in_([1, 2])))


def test_an_order_that_is_no_sql():
    assert refusal_of_app(order_by=lambda cls: [cls.total, 7], limit=5)[0].endswith(
        ", 7], which is no SQL"
    )


def test_a_where_that_only_the_other_database_knows(tmp_path):
    def where(cls):
        return cast(cls.total, postgresql.INT4RANGE).op("@>")(3).is_(True)

    resource = bill(where=where)
    app_of(resource).close()

    with pytest.raises(DefinitionError, match="cannot be asked for: UnsupportedComp"):
        app_of(resource, url=f"sqlite:///{tmp_path}/app.db")


def test_an_ago_for_two_kinds_of_columns():
    past = ago(hours=1)

    class Visit(StatefulResource, Base):
        __tablename__ = "visits"
        id: Mapped[int] = mapped_column(primary_key=True)
        here: Mapped[datetime]
        there: Mapped[datetime] = mapped_column(UtcDateTime)
        state: Mapped[Step] = state_column(Step, initial=Step.NEW)
        drop = Trigger.scheduled(
            "visit.drop",
            cron="@daily",
            where=lambda: (Visit.here < past) & (Visit.there < past),
        )

        @drop.action(Step.NEW)
        def do_drop(self, ctx: JobContext) -> None: ...

    with pytest.raises(DefinitionError) as refused:
        app_of(Visit)

    assert said(refused) == [
        "ago(): one ago() is compared with a column that has a time zone, and with one "
        "that has none",
        "  why: its value is sent as the column has it",
        "  fix: call ago() for each of them",
    ]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (
            lambda cls: cls.total < ago(days=1),
            "ago(): it is compared with bills.total, which is Integer() and holds no time",
        ),
        (
            lambda cls: ago(days=1) > cls.total,
            "ago(): it is compared with bills.total, which is Integer() and holds no time",
        ),
        (
            lambda cls: cls.sent_at < ago(days=1) - timedelta(days=1),
            "ago(): something is added to it, or taken from it",
        ),
        (
            lambda cls: cls.sent_at < datetime(2030, 1, 1),  # noqa: DTZ001 - it is naive
            "where=: naive datetime datetime.datetime(2030, 1, 1, 0, 0)",
        ),
    ],
    ids=["number", "number on the right", "reckoned with", "naive"],
)
def test_a_time_that_no_tick_could_send(where, words):
    assert refusal_of_app(where=where)[0] == words


def test_two_schedules_of_one_key():
    with pytest.raises(DefinitionError) as refused:
        app_of(bill(), bill(name="Invoice"))

    assert "'bill.expire'" in said(refused)[0]


def test_a_schedule_and_a_task_of_one_key():
    @task("bill.expire")
    def expire() -> None: ...

    domain = Domain("shop", resources=[bill()], tasks=[expire])
    with pytest.raises(DefinitionError, match=r"bill\.expire"):
        StateJobs("postgresql+psycopg://nobody@nowhere/none", domains=[domain])


# --- ago ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (ago, "ago(): wait must be positive, got 0:00:00; say ago(hours=24)"),
        (
            lambda: ago(hours=-1),
            "ago(): wait must be positive, got -1 day, 23:00:00; say ago(hours=24)",
        ),
        (
            lambda: ago(24),
            "ago(): span must be a timedelta, not 24; say timedelta(seconds=24)",
        ),
        (
            lambda: ago(days="1"),
            "ago(): days must be a number, not '1'; say 5 or 0.5",
        ),
    ],
)
def test_an_ago_that_is_no_span(call, words):
    with pytest.raises(StateJobsError) as refused:
        call()

    assert str(refused.value) == words


def test_an_ago_of_a_naive_time():
    with pytest.raises(StateJobsError, match=r"span must be a timedelta, not datetime"):
        ago(datetime(2026, 1, 1))  # noqa: DTZ001 - it is naive

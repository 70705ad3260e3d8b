"""Each door that takes a duration, a number, an id, a collection or a class says what it takes."""

import asyncio
import copy
from datetime import datetime, timedelta
from enum import StrEnum

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    ConfigurationError,
    Domain,
    Event,
    Exponential,
    JobContext,
    Retention,
    Snooze,
    Sources,
    StatefulResource,
    StateJobs,
    StateJobsError,
    Trigger,
    WorkerSettings,
    WrongCallError,
    WrongValueError,
    configure_sqlite,
    mermaid,
    override_state,
    state_column,
    task,
    transition,
)


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    NEW = "new"
    DONE = "done"


class Order(StatefulResource, Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.NEW)
    charge = Trigger.on_demand("order.charge")

    @charge.action(S.NEW, S.DONE)
    def pay(self, ctx: JobContext) -> None:
        """Pay."""

    @transition(S.NEW, S.DONE)
    def submit(self) -> None:
        """Submit."""


class Waiting(StatefulResource, Base):
    __tablename__ = "waiting"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.NEW)
    charge = Trigger.on_demand("waiting.charge")

    @charge.action(S.NEW, S.DONE)
    async def pay(self, ctx: "AsyncJobContext") -> None:  # noqa: F821 - resolved only when used
        """Pay."""


@task("a.b")
def work(n: int) -> None:
    """Work."""


URL = "sqlite:////no/such/place.db"


def app(**options):
    return StateJobs(URL, **{"domains": [Domain("x", resources=[Order])], **options})


def asked(call):
    """Ask an app that is closed at the end."""

    def ask():
        with app() as jobs:
            call(jobs)

    return ask


SPAN = "must be a timedelta, not 5; say timedelta(seconds=5)"
DURATIONS = {
    "trigger 'x': timeout": lambda: Trigger.on_demand("x", timeout=5),
    "task 'x': timeout": lambda: task("x", timeout=5),
    "options(delay=…)": lambda: Order.pay.options(delay=5),
    "options(delay=…) ": lambda: work.options(delay=5),
    "Snooze: delay": lambda: Snooze(5),
    "trigger 'order.charge': after(): delay": lambda: Order.charge.after(5),
    "Exponential: base": lambda: Exponential(base=5),
    "Exponential: cap": lambda: Exponential(cap=5),
    "prune(older_than=…)": asked(lambda jobs: jobs.prune(older_than=5)),
    **{
        f"WorkerSettings({name}=…)": lambda name=name: WorkerSettings(**{name: 5})
        for name in (
            "lease",
            "heartbeat",
            "rescue",
            "poll",
            "shutdown_grace",
            "timeout_grace",
            "idle_in_transaction",
        )
    },
    **{
        f"Retention({name}=…)": lambda name=name: Retention(**{name: 5})
        for name in ("completed", "cancelled", "discarded", "history", "every")
    },
}


@pytest.mark.parametrize("where", DURATIONS)
def test_a_number_without_a_unit_is_no_duration(where):
    with pytest.raises(WrongValueError) as caught:
        DURATIONS[where]()

    assert str(caught.value) == f"{where.strip()} {SPAN}"


WRONG = [
    (lambda: Snooze(seconds="5"), "Snooze: seconds must be a number, not '5'"),
    (Snooze, "say Snooze(minutes=5)"),
    (
        lambda: Order.charge.after(days="3"),
        "trigger 'order.charge': after(): days must be a number, not '3'",
    ),
    (
        Order.charge.after,
        "trigger 'order.charge': after(): wait must be positive, got 0:00:00; "
        "say ….after(days=3)",
    ),
    (lambda: Order.charge.after(dayz=3), "unknown option 'dayz'"),
    (lambda: Order.charge.after(dayz=3), "did you mean 'days'?"),
    (lambda: Order.charge.after(days=-1), "wait must be positive, got -1 day, 0:00:00"),
    (lambda: Exponential(jitter="x"), "Exponential: jitter must be a number"),
    (lambda: WorkerSettings(lease=None), "must be a timedelta, not None"),
    (
        lambda: WorkerSettings(claim_batch=True),
        "must be a whole number from 1 on, not True",
    ),
    (
        lambda: WorkerSettings(finish_batch=timedelta(5)),
        "must be a whole number from 1 on",
    ),
    (
        lambda: Retention(batch="7"),
        "Retention(batch=…) must be a whole number from 1 on",
    ),
    (lambda: Retention(every="1 day"), "not '1 day'; say timedelta(seconds=30)"),
    (
        lambda: Order.pay.options(priority="5"),
        "options(priority=…) must be a whole number",
    ),
    (lambda: Order.pay.options(priority=99), "is not between 0 (first) and 9 (last)"),
    (
        lambda: Order.pay.options(run_at=5),
        "options(run_at=…) must be a datetime, not 5",
    ),
    (lambda: Order.pay.options(run_at=datetime(2030, 1, 1)), "has no time zone"),  # noqa: DTZ001
    (lambda: Trigger.on_demand(5), "key must be text, not 5; say 'order.charge'"),
    (lambda: Trigger.on_demand("x", queue=5), "trigger 'x': queue must be text, not 5"),
    (
        lambda: Trigger.on_demand("x", aliases="old"),
        "takes a collection, not 'old' alone",
    ),
    (
        lambda: Trigger.on_demand("x", tags="nightly"),
        "trigger 'x': tags= takes a collection",
    ),
    (lambda: task("x", aliases="old"), "task 'x': aliases= takes a collection"),
    (lambda: task("x", tags=5), "task 'x': tags= takes a collection, not 5 alone"),
    (
        lambda: state_column(["a", "b"], initial="a"),
        "state_column() takes an enum of the states",
    ),
    (lambda: state_column(S.NEW, initial=S.NEW), "class State(StrEnum)"),
    (lambda: state_column(S, initial=S.NEW, final=S.DONE), "final= takes a collection"),
    (lambda: state_column(S, initial=S.NEW, deprecated=S.DONE), "say (S.NEW,)"),
    (lambda: Domain(5), "Domain: its name must be text, not 5"),
    (
        lambda: Domain("x", resources=Order),
        "Domain('x'): resources= takes a collection",
    ),
    (lambda: Domain("x", tasks=work), "say tasks=[report]"),
    (lambda: app(domains=Domain("x")), "StateJobs: domains= takes a collection"),
    (lambda: app(domains=[Order]), "StateJobs: each of domains= must be a Domain, not"),
    (lambda: app(domains=Order), "domains=[Domain("),
    (lambda: app(queues=["default", "mail"]), "say {'default': 10, 'mail': 10}"),
    (lambda: app(queues="default"), "queues= must be a mapping, not 'default'"),
    (lambda: app(queues={5: 5}), "queues=: each name must be text, not 5"),
    (lambda: app(settings={"lease": 5}), "settings= must be a WorkerSettings"),
    (lambda: app(retention=timedelta(1)), "retention= must be a Retention"),
    (lambda: app(sources=5), "sources= must be a Sources"),
    (asked(lambda jobs: jobs.retry_job("1")), "a job, not '1'; give 1"),
    (
        asked(lambda jobs: jobs.cancel_job("x")),
        "cancel_job() takes the number of a job, not 'x'",
    ),
    (
        asked(lambda jobs: jobs.cancel_job(True)),
        "cancel_job() takes the number of a job",
    ),
    (
        asked(lambda jobs: jobs.why_no_retry(None)),
        "why_no_retry() takes the number of a job",
    ),
    (
        asked(lambda jobs: jobs.stuck_jobs(limit="5")),
        "must be a whole number from 0 on",
    ),
    (
        asked(lambda jobs: jobs.queries.job("1")),
        "queries.job() takes the number of a job",
    ),
    (
        asked(lambda jobs: jobs.queries.attempts("1")),
        "queries.attempts() takes the number",
    ),
    (
        asked(lambda jobs: jobs.queries.last_errors(1)),
        "takes a collection, not 1 alone; say [1]",
    ),
    (
        asked(lambda jobs: jobs.queries.last_errors(["1"])),
        "takes the number of a job, not '1'",
    ),
    (asked(lambda jobs: jobs.queries.jobs(states="queued")), 'say states=["queued"]'),
    (
        asked(lambda jobs: jobs.queries.jobs(limit="5")),
        "jobs(limit=…) must be a whole number",
    ),
    (asked(lambda jobs: jobs.queries.jobs(limit=-1)), "from 0 on, not -1"),
    (
        asked(lambda jobs: jobs.queries.jobs(queue=5)),
        "jobs(queue=…) must be text, not 5",
    ),
    (
        asked(lambda jobs: jobs.queries.jobs(key=Order.charge)),
        "jobs(key=…) must be text",
    ),
    (
        asked(lambda jobs: jobs.queries.stuck(limit=None)),
        "stuck(limit=…) must be a whole number",
    ),
    (asked(lambda jobs: jobs.queries.put_aside(limit="1")), "put_aside(limit=…)"),
    (
        asked(lambda jobs: jobs.drain(queues="default")),
        "drain(queues=…) takes a collection",
    ),
    (
        asked(lambda jobs: jobs.drain(most="5")),
        "drain(most=…) must be a whole number from 1 on",
    ),
    (asked(lambda jobs: jobs.step("5")), "step(n) must be a whole number"),
    (asked(lambda jobs: jobs.worker(queues=["default"])), "say {'default': 10}"),
    (
        lambda: Order.pay.enqueue_many(Session(), Order()),
        "Order.pay.enqueue_many() takes a",
    ),
    (lambda: work.enqueue_many(Session(), 5), "takes a collection, not 5 alone"),
    (
        lambda: Order.submit.bulk(Session(), where=True, values=5),
        "submit.bulk(values=…) must be",
    ),
    (
        lambda: Order.submit.bulk(Session(), where=True, args=[1]),
        "submit.bulk(args=…) must be",
    ),
    (lambda: Trigger("x"), 'say Trigger.on_demand("order.charge")'),
    (lambda: mermaid(Order), "mermaid() must be a MachineSpec"),
    (lambda: Sources(clock=5), "Sources(clock=…): its now must be callable, not 5"),
    (lambda: Sources(ids="x"), "Sources(ids=…) must be callable"),
    (lambda: Sources(rng=7), "say rng=random.Random(7)"),
    (lambda: Sources(sleep=1), "say sleep=time.sleep"),
    (lambda: Sources(wait=1), "say wait=wait_for"),
    (
        asked(lambda jobs: jobs.telemetry.subscribe("x")),
        "subscribe() must be callable, not 'x'",
    ),
    (
        asked(lambda jobs: jobs.telemetry.subscribe(print, Event.JOB_ENDED)),
        "each event must be a class of Happening, not <Event.JOB_ENDED: 'job.ended'>; say",
    ),
    (
        asked(lambda jobs: jobs.queries.waiting_for_other_code("now")),
        "must be a datetime",
    ),
    (lambda: Order.pay.enqueue(Session(), 5), "what shall be enqueued is of type int"),
    (
        lambda: Order.submit.bulk(Session(), where=True, limit="5"),
        "submit.bulk(limit=…) must be",
    ),
    (
        lambda: override_state(5, reason="x").__enter__(),
        "override_state() takes a record",
    ),
    (
        lambda: override_state(Order, reason="x").__enter__(),
        "override_state() takes a record",
    ),
    (lambda: override_state(Order(), reason=" ").__enter__(), "say why"),
    (
        lambda: configure_sqlite(create_engine(URL), busy_timeout_seconds=timedelta(5)),
        "busy_timeout_seconds=…) must be a number",
    ),
    (
        lambda: configure_sqlite(create_engine(URL), synchronous="OFF"),
        "'FULL' or 'NORMAL'",
    ),
]


@pytest.mark.parametrize(("door", "words"), WRONG, ids=range(len(WRONG)))
def test_a_value_of_the_wrong_kind_is_refused_in_one_line(door, words):
    with pytest.raises(WrongValueError) as caught:
        door()

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_such_an_error_is_what_python_raises_and_ours():
    assert issubclass(WrongValueError, (StateJobsError, TypeError, ValueError))
    for kind in (StateJobsError, TypeError, ValueError):
        with pytest.raises(kind):
            Snooze(5)
    for kind in (StateJobsError, TypeError, AttributeError):
        with pytest.raises(kind):
            _ = Order().pay.enqueue


@pytest.mark.parametrize(
    "call",
    [
        lambda: Order.pay.enqueue_async(Session(), Order()),
        lambda: work.enqueue_async(Session(), n=1),
        lambda: Order.submit.bulk_async(Session(), where=True),
    ],
    ids=["action", "task", "bulk"],
)
def test_a_session_is_refused_where_an_asynchronous_one_belongs(call):
    with pytest.raises(ConfigurationError, match="not an AsyncSession"):
        asyncio.run(call())


@pytest.mark.parametrize("redact", [5, "iban", [5]])
def test_what_is_no_list_of_words_to_hide_is_refused(redact):
    with pytest.raises(ConfigurationError, match="is no list of words"):
        app(redact=redact)


CALLS = {
    "Order.submit is of the class; fire it on a record: record.submit(…)": Order.submit,
    "Order.submit.bulk(session, where=…)": lambda: Order.submit(Order()),
    "Order.pay is of the class; call it on a record": lambda: Order.pay(Order()),
    "say Order.pay.enqueue(session, record)": lambda: Order().pay.enqueue(Session()),
    "say Order.pay.enqueue_async(session, record)": lambda: Order().pay.enqueue_async,
    "say Order.pay.options(…)": lambda: Order().pay.options(priority=5),
    "needs a JobContext: record.pay(ctx)": lambda: Order().pay(),
    "needs an AsyncJobContext": lambda: Waiting().pay(),
}


@pytest.mark.parametrize("words", CALLS)
def test_what_is_called_in_the_wrong_place_says_where_it_is(words):
    with pytest.raises(WrongCallError) as caught:
        CALLS[words]()

    assert words in str(caught.value)


def test_other_attributes_are_missing_as_usual():
    assert not hasattr(Order().pay, "nothing")
    assert not hasattr(Order().pay, "enqueue")
    assert copy.copy(Order().pay) is not None


def test_the_forms_for_asyncio_refuse_the_same():
    async def ask():
        with app() as jobs:
            with pytest.raises(WrongValueError, match="retry_job"):
                await jobs.retry_job_async("1")
            with pytest.raises(WrongValueError, match="states"):
                await jobs.queries.jobs_async(states="queued")

    asyncio.run(ask())


def test_records_and_calls_may_come_from_a_generator(database_url):
    with StateJobs(
        database_url, domains=[Domain("x", resources=[Order], tasks=[work])]
    ) as jobs:
        jobs.create_all()
        with jobs.session() as session:
            made = Order.pay.enqueue_many(session, (Order() for _ in range(3)))
            asked = work.enqueue_many(session, ({"n": n} for n in range(2)))
            session.commit()

        assert len(made) == 3
        assert len(asked) == 2
        assert len(jobs.queries.jobs()) == 5

"""A function that returns what nobody runs is told so wherever it is called, and counts for no."""

import asyncio
from contextlib import asynccontextmanager, contextmanager
from functools import wraps

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    ChunkContext,
    DefinitionError,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    StateJobsError,
    Trigger,
    guard,
    state_column,
    task,
    transition,
)
from statejobs.store.tables import jobs
from statejobs.values.unrun import ran
from tests.resource.support import Step
from tests.support.clock import ManualClock, manual_sources
from tests.support.parcels import close_app

RAN = []


def in_a_wrapper(body):
    """What many decorators of libraries do."""

    @wraps(body)
    def call(*args, **named):
        return body(*args, **named)

    return call


async def waits(*_args, **_named):
    RAN.append("body")
    raise AssertionError


def yields(*_args, **_named):
    RAN.append("body")
    yield


async def yields_later(*_args, **_named):
    RAN.append("body")
    yield


HIDDEN = {
    "coroutine": in_a_wrapper(waits),
    "generator": in_a_wrapper(yields),
    "asynchronous generator": in_a_wrapper(yields_later),
    "context manager": contextmanager(yields),
    "asynchronous context manager": asynccontextmanager(yields_later),
}


@pytest.fixture(params=HIDDEN.values(), ids=HIDDEN)
def hidden(request):
    RAN.clear()
    yield request.param
    assert RAN == []


def order_class(
    *,
    guard=None,
    body=None,
    action=None,
    action_guard=None,
    hook=None,
    tasks=(),
    **options,
):
    """Return the base and an order of which one function is given."""

    class Base(DeclarativeBase): ...

    charge = Trigger.on_demand("order.charge", max_attempts=1, **options)

    def act(self, ctx: JobContext) -> None:
        if hook is not None:
            raise ValueError("no")
        return action(self, ctx) if action is not None else None

    def act_on_all(records, ctx: ChunkContext) -> None:
        return action(records, ctx)

    def go(self) -> None:
        return body(self) if body is not None else None

    def wait(self) -> None: ...

    declared = {
        "__tablename__": "orders",
        "__annotations__": {"id": Mapped[int], "state": Mapped[Step]},
        "id": mapped_column(primary_key=True),
        "state": state_column(Step, initial=Step.NEW),
        "charge": charge,
        "pay": charge.action(
            Step.NEW, Step.DONE, failed=Step.FAILED, guard=action_guard
        )(staticmethod(act_on_all) if "chunk" in options else act),
        "go": transition(Step.NEW, Step.OLD, guard=guard)(go),
        "wait": transition(Step.OLD, Step.NEW, run_trigger=charge)(wait),
    }

    class Told:
        if hook is not None:
            tell = charge.on_discard(in_a_wrapper(hook))

    return Base, type("Order", (Told, StatefulResource, Base), declared)


def opened(url, base, order):
    app = StateJobs(
        url,
        domains=[Domain("d", resources=[order])],
        sources=manual_sources(ManualClock()),
    )
    app.create_all()
    base.metadata.create_all(app.engine)
    return app


def run_one(url, **functions):
    """Run the job of one order; return its state, and the messages of its attempts."""
    base, order = order_class(**functions)
    app = opened(url, base, order)
    try:
        with app.session() as session:
            session.add(record := order(id=1))
            order.pay.enqueue(session, record)
            session.commit()
        app.drain()
        with app.session() as session:
            said = [
                row["message"] for row in app.queries.attempts(app.queries.jobs()[0].id)
            ]
            return session.get(order, 1).state, said
    finally:
        close_app(app)


# --- records ---------------------------------------------------------------------------------


def test_a_guard_that_was_not_run_lets_nothing_pass(hidden):
    _, order = order_class(guard=hidden)
    record = order()

    for ask in (
        record.go,
        record.go.can,
        record.go.why_not,
        record.available_transitions,
    ):
        with pytest.raises(
            StateJobsError, match=r"^guard '\w+' returned an? .*, which was not run"
        ):
            ask()
    assert record.state is Step.NEW


def test_a_transition_whose_body_was_not_run_moves_nothing(hidden):
    _, order = order_class(body=hidden)
    record = order()

    with pytest.raises(StateJobsError, match=r"^transition '.*' returned an? "):
        record.go()

    assert record.state is Step.NEW


def test_an_async_transition_that_forgets_to_await_moves_nothing(hidden):
    class Base(DeclarativeBase): ...

    class Order(StatefulResource, Base):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[Step] = state_column(Step, initial=Step.NEW)

        @transition(Step.NEW, Step.DONE)
        async def go(self):
            return hidden(self)

    record = Order()
    with pytest.raises(StateJobsError, match=r"^transition 'go' returned"):
        asyncio.run(record.go())

    assert record.state is Step.NEW


@pytest.fixture(params=["coroutine", "context manager"])
def unrun(request):
    RAN.clear()
    yield HIDDEN[request.param]
    assert RAN == []


# --- jobs ------------------------------------------------------------------------------------


def test_an_action_whose_body_was_not_run_fails(database_url, unrun):
    state, said = run_one(database_url, action=unrun)

    assert state is Step.FAILED
    assert said[0].startswith("action 'act' returned a")


def test_an_action_that_a_test_calls_is_told_too(hidden):
    _, order = order_class(action=hidden)
    record = order()

    with pytest.raises(StateJobsError, match=r"^action 'act' returned"):
        record.pay(JobContext(session=None, job=None, now=ManualClock().now()))

    assert record.state is Step.NEW


def test_an_action_on_many_records_that_was_not_run_fails(database_url, unrun):
    state, said = run_one(database_url, action=unrun, chunk=5)

    assert state is Step.FAILED
    assert said[0].startswith("action 'act_on_all' returned a")


def test_a_guard_of_an_action_that_was_not_run_fails_the_attempt(database_url, unrun):
    state, said = run_one(database_url, action_guard=unrun)

    assert state is Step.FAILED
    assert said[0].startswith("guard '")


def test_an_on_discard_that_was_not_run_is_told(database_url, unrun, caplog):
    state, _ = run_one(database_url, hook=unrun)

    assert state is Step.FAILED
    assert "on_discard of 'order.charge' returned a" in caplog.text


def test_arguments_made_by_what_was_not_run_are_refused_at_the_flush(
    database_url, unrun
):
    base, order = order_class(args=unrun)
    app = opened(database_url, base, order)
    with app.session() as session:
        session.add(record := order(id=1))
        record.go()
        record.wait()
        with pytest.raises(
            StateJobsError, match=r"^args= of 'order.charge' returned a"
        ):
            session.commit()
    close_app(app)


def test_an_upcast_that_was_not_run_fails_the_attempt(database_url, unrun):
    base, order = order_class(upcast=unrun)
    app = opened(database_url, base, order)
    with app.session() as session:
        session.add(record := order(id=1))
        order.pay.enqueue(session, record)
        session.commit()
        session.execute(jobs.update().values(args='{"old":1}'))
        session.commit()

    app.drain()

    said = [row["message"] for row in app.queries.attempts(app.queries.jobs()[0].id)]
    assert said[0].startswith("upcast of ")
    close_app(app)


# --- tasks -----------------------------------------------------------------------------------


def run_task(url, body):
    app = StateJobs(
        url, domains=[Domain("d", tasks=[body])], sources=manual_sources(ManualClock())
    )
    app.create_all()
    with app.session() as session:
        body.enqueue(session)
        session.commit()
    app.drain()
    (job,) = app.queries.jobs()
    said = [row["message"] for row in app.queries.attempts(job.id)]
    close_app(app)
    return said


def test_a_task_whose_body_was_not_run_fails(database_url, unrun):
    @task("errand.hidden", max_attempts=1)
    def run():
        return unrun()

    assert run_task(database_url, run)[0].startswith("task 'run' returned a")


def test_an_async_task_that_forgets_to_await_fails(database_url, unrun):
    @task("errand.hidden", max_attempts=1)
    async def run():
        return unrun()

    assert run_task(database_url, run)[0].startswith("task 'run' returned a")


def test_an_on_discard_of_a_task_that_was_not_run_is_told(database_url, unrun, caplog):
    @task("errand.hidden", max_attempts=1)
    def run():
        raise ValueError("no")

    @run.on_discard
    def tell(session, reason):
        return unrun(session, reason)

    run_task(database_url, run)

    assert "on_discard of 'errand.hidden' returned a" in caplog.text


def test_a_backoff_that_was_not_run_is_told_and_another_stands_in(
    database_url, unrun, caplog
):
    @task("errand.hidden", max_attempts=2, backoff=unrun)
    def run():
        raise ValueError("no")

    assert run_task(database_url, run)[0] == "no"
    assert "backoff 'Custom' returned a" in caplog.text


# --- what is not such a thing ----------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [None, True, False, 0, "text", [1], {"a": 1}, iter([1]), object()]
)
def test_any_other_result_is_returned_as_it_is(value):
    assert ran(value, "task", "run") is value


def test_a_task_of_asyncio_is_no_answer():
    async def ask():
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(
            StateJobsError, match=r"^guard 'paid' returned an awaitable"
        ):
            ran(future, "guard", "paid")

    asyncio.run(ask())


def test_a_guard_is_seen_to_be_async_below_a_static_method():
    with pytest.raises(DefinitionError, match="is async"):
        order_class(guard=staticmethod(waits))


def test_a_bridge_that_runs_what_it_wraps_may_be_a_guard():
    async def is_paid(_order) -> bool:
        return True

    @wraps(is_paid)
    def bridge(order):
        return asyncio.run(is_paid(order))

    _, order = order_class(guard=bridge)
    record = order()
    record.go()

    assert record.state is Step.OLD


def test_the_form_in_sql_of_a_guard_must_be_a_condition():
    with pytest.raises(DefinitionError, match="is async"):
        guard(sql=staticmethod(waits))

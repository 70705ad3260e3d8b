"""What a handler of asyncio calls is awaited: the same calls, and a loop that goes on."""

import asyncio
import inspect
import threading
from enum import StrEnum

import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    ConfigurationError,
    Domain,
    JobContext,
    NotFoundError,
    StatefulResource,
    StateJobs,
    StateJobsError,
    Trigger,
    acting_as,
    configure_sqlite,
    state_column,
    task,
    transition,
)
from statejobs.awaited import Awaited
from statejobs.store.engines.factory import async_url
from statejobs.store.queries import JobQueries
from statejobs.values.clock import Sources
from tests.support.clock import ManualClock

PATIENCE = 20  # seconds after which a test gives up


class Base(DeclarativeBase): ...


class S(StrEnum):
    OPEN = "open"
    SENT = "sent"
    PAID = "paid"
    FAILED = "failed"


class Bill(StatefulResource, Base):
    __tablename__ = "awaited_bills"

    id: Mapped[int] = mapped_column(primary_key=True)
    bank: Mapped[str] = mapped_column(default="open")
    state: Mapped[S] = state_column(S, initial=S.OPEN)

    collect = Trigger.on_demand("bill.collect", max_attempts=1)

    @transition(S.OPEN, S.SENT, run_trigger=collect)
    def send(self): ...

    @collect.action(S.SENT, S.PAID, failed=S.FAILED)
    def ask_bank(self, ctx: JobContext):
        if self.bank == "closed":
            raise OSError("the bank is closed")

    @transition(S.FAILED, S.SENT, run_trigger=collect)
    def again(self): ...


loop_went_on = threading.Event()
has_begun = threading.Event()
has_ended = threading.Event()


@task("awaited.wait")
def wait_for_the_loop():
    has_begun.set()
    assert loop_went_on.wait(PATIENCE)
    has_ended.set()


@task("awaited.stop", max_attempts=1)
def stop_iterating():
    raise StopIteration


@pytest.fixture(autouse=True)
def _fresh():
    for event in (loop_went_on, has_begun, has_ended):
        event.clear()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def app(database_url, clock):
    domain = Domain(
        "awaited", resources=[Bill], tasks=[wait_for_the_loop, stop_iterating]
    )
    with StateJobs(database_url, domains=[domain], sources=Sources(clock=clock)) as app:
        app.create_all()
        yield app


def add_bill(app, **values):
    with app.session() as session:
        session.add(bill := Bill(**values))
        bill.send()
        session.commit()
        return bill.id


def enqueue(app, declared):
    with app.session() as session:
        declared.enqueue(session)
        session.commit()


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, PATIENCE))


def open_own_engine(app):
    engine = create_async_engine(async_url(app.engine))
    if engine.dialect.name == "sqlite":
        configure_sqlite(engine.sync_engine)
    return engine


def test_a_handler_drains_retries_and_asks(app):
    add_bill(app, bank="closed")

    async def handle():
        assert (await app.drain_async()).counts == {"discard": 1}
        assert [
            job.id for job in await app.queries.jobs_async(states=["discarded"])
        ] == [1]
        assert await app.why_no_retry_async(1) is None
        assert await app.retry_job_async(1) == "queued"
        assert await app.cancel_job_async(1, reason="by hand") == "cancelled"
        assert await app.stuck_jobs_async() == []
        assert (await app.prune_async(dry_run=True)).attempts == 0
        return await app.queries.job_async(1)

    job = run(handle())

    assert (job.state, job.reason) == ("cancelled", "by hand")


def test_the_loop_goes_on_while_a_drain_is_awaited(app):
    enqueue(app, wait_for_the_loop)

    async def handle():
        draining = asyncio.create_task(app.drain_async())
        await asyncio.to_thread(has_begun.wait, PATIENCE)
        loop_went_on.set()
        return await draining

    assert run(handle()).counts == {"complete": 1}


def test_whoever_no_longer_waits_stops_nothing_that_runs(app):
    enqueue(app, wait_for_the_loop)

    async def handle():
        draining = asyncio.create_task(app.drain_async())
        await asyncio.to_thread(has_begun.wait, PATIENCE)
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        assert not has_ended.is_set()
        loop_went_on.set()

    run(handle())  # the loop ends when its threads have

    assert app.queries.job(1).state == "completed"


def test_errors_are_those_of_the_synchronous_forms(app):
    with pytest.raises(NotFoundError) as told:
        app.retry_job(99)

    with pytest.raises(NotFoundError) as caught:
        run(app.retry_job_async(99))
    with pytest.raises(NotFoundError, match="did you mean 'queued'"):
        run(app.queries.jobs_async(states=["qeued"]))
    with pytest.raises(ConfigurationError, match="no queue 'defalt'"):
        run(app.drain_async(queues=["defalt"]))
    with pytest.raises(TypeError, match="unexpected keyword argument 'why'"):
        run(app.cancel_job_async(1, why="so"))

    assert str(caught.value) == str(told.value)


def test_what_an_action_raised_is_raised_to_whoever_awaits(app):
    add_bill(app, bank="closed")

    with pytest.raises(OSError, match="the bank is closed"):
        run(app.drain_async(raise_errors=True))


def test_an_error_that_no_future_carries_ends_the_wait_all_the_same(app):
    enqueue(app, stop_iterating)

    with pytest.raises(RuntimeError, match="drain raised StopIteration"):
        run(app.drain_async(raise_errors=True))


def test_history_names_who_awaits(app):
    bill_id = add_bill(app, bank="closed")
    app.drain()

    async def retry_as(actor):
        with acting_as(actor):
            await app.retry_job_async(1)

    run(retry_as("user:7"))

    last = app.queries.transitions(Bill.__machine__.name, str(bill_id))[-1]
    assert (last["name"], last["actor"]) == ("again", "user:7")


def test_a_closing_app_stops_its_workers_while_the_loop_goes_on(app):
    enqueue(app, wait_for_the_loop)
    worker = app.worker()
    worker.start()

    async def handle():
        await asyncio.to_thread(has_begun.wait, PATIENCE)
        closing = asyncio.create_task(app.close_async())
        await asyncio.sleep(0)
        loop_went_on.set()
        await closing

    run(handle())

    assert has_ended.is_set()
    assert not worker.is_running


@pytest.mark.parametrize("owner", [StateJobs, JobQueries])
def test_each_form_is_named_after_its_method_and_takes_the_same(app, owner):
    instance = app if owner is StateJobs else app.queries
    forms = [name for name, found in vars(owner).items() if isinstance(found, Awaited)]

    assert forms
    for name in forms:
        form, method = (
            getattr(instance, name),
            getattr(instance, name.removesuffix("_async")),
        )
        assert (form.__name__, form.__doc__) == (name, method.__doc__)
        assert inspect.signature(form) == inspect.signature(method)
        assert inspect.iscoroutinefunction(form)


def test_every_query_has_a_form_for_asyncio():
    public = {name for name in vars(JobQueries) if not name.startswith("_")}
    methods = {name for name in public if not name.endswith("_async")}

    assert public - methods == {f"{name}_async" for name in methods}


def test_a_form_calls_what_a_subclass_made_of_its_method(database_url):
    class Counting(StateJobs):
        def why_no_retry(self, job_id):
            return f"{job_id} is mine"

    with Counting(database_url, domains=[Domain("none")]) as app:
        assert run(app.why_no_retry_async(3)) == "3 is mine"


def test_an_async_session_is_on_the_users_engine_and_on_the_time_of_the_app(app, clock):
    async def handle():
        engine = open_own_engine(app)
        async with app.async_session(engine) as session:
            assert session.bind is engine
            session.add(bill := Bill())
            bill.send()
            await session.commit()
            assert bill.state is S.SENT  # does not expire
        await engine.dispose()
        return await app.drain_async()

    result = run(handle())

    assert result.counts == {"complete": 1}
    assert result.jobs[0].enqueued_at == clock.now()


def test_what_an_async_session_rolls_back_leaves_no_job(app):
    async def handle():
        engine = open_own_engine(app)
        async with app.async_session(engine) as session:
            session.add(bill := Bill())
            bill.send()
            await session.flush()
        await engine.dispose()
        return await app.queries.counts_async()

    assert run(handle()) == {}


def test_an_async_session_is_refused_on_what_is_no_async_engine(app):
    own = create_async_engine(async_url(app.engine))

    for given in (app.engine, own.sync_engine, str(app.engine.url)):
        with pytest.raises(ConfigurationError, match="pass what create_async_engine"):
            app.async_session(given)


def test_an_async_session_is_refused_on_an_engine_that_loses_jobs(app):
    unfit = create_async_engine(async_url(app.engine), isolation_level="AUTOCOMMIT")
    if unfit.dialect.name == "sqlite":
        configure_sqlite(unfit.sync_engine)

    with pytest.raises(ConfigurationError, match="this engine is in AUTOCOMMIT"):
        app.async_session(unfit)


def test_an_async_session_is_refused_on_a_sqlite_engine_as_it_comes(app, sqlite_url):
    engine = create_async_engine(sqlite_url.replace("sqlite:", "sqlite+aiosqlite:"))

    with pytest.raises(ConfigurationError, match="configure_sqlite"):
        app.async_session(engine)


def test_a_closed_app_gives_no_async_session(app):
    app.close()

    with pytest.raises(StateJobsError, match="this app was closed"):
        app.async_session(open_own_engine(app))

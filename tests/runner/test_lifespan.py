"""What a worker keeps open: entered once before the first claim, left after the last job."""

import asyncio
import logging
import threading
from contextlib import asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass

import pytest
from sqlalchemy import Integer
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    ChunkContext,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    StateJobsError,
    Trigger,
    WrongValueError,
    state_column,
    task,
    transition,
)
from tests.resource.support import Step
from tests.support.processes import eventually

told = []
"""What happened, in its order."""
VARIABLE = ContextVar("variable", default="outside")


@dataclass
class Kit:
    """What is kept open."""

    loop: object
    thread: int


class Base(DeclarativeBase): ...


class Parcel(StatefulResource, Base):
    __tablename__ = "parcels_with_kit"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    state: Mapped[Step] = state_column(Step, initial=Step.NEW)
    weigh = Trigger.on_demand("kit.weigh", chunk=5)

    @transition(Step.NEW, Step.QUEUED, run_trigger=weigh)
    def send(self) -> None: ...

    @weigh.action(Step.QUEUED, Step.DONE)
    @staticmethod
    def weigh_all(parcels: list["Parcel"], ctx: ChunkContext) -> None:
        told.append(("chunk", ctx.from_lifespan(Kit)))


@task("kit.plain")
def plain(ctx: JobContext) -> None:
    told.append(("plain", ctx.from_lifespan(Kit)))


@task("kit.awaited")
async def awaited(ctx: AsyncJobContext) -> None:
    kit = ctx.from_lifespan(Kit)
    assert kit.loop is asyncio.get_running_loop()
    told.append(("awaited", kit))


DOMAIN = Domain("kits", resources=[Parcel], tasks=[plain, awaited])


@asynccontextmanager
async def open_kit():
    token = VARIABLE.set("inside")
    task_of_entry = asyncio.current_task()
    kit = Kit(asyncio.get_running_loop(), threading.get_ident())
    told.append(("enter", kit))
    yield kit
    assert asyncio.current_task() is task_of_entry
    VARIABLE.reset(token)
    told.append(("leave", kit))


@contextmanager
def open_plain_kit():
    kit = Kit(asyncio.get_running_loop(), threading.get_ident())
    told.append(("enter", kit))
    yield kit
    assert threading.get_ident() == kit.thread
    told.append(("leave", kit))


@pytest.fixture(autouse=True)
def _forget():
    told.clear()


@pytest.fixture
def app_with(database_url):
    """Makes an app that keeps something open."""
    made = []

    def make(worker_lifespan, **options):
        app = StateJobs(
            database_url, domains=[DOMAIN], worker_lifespan=worker_lifespan, **options
        )
        app.create_all()
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


def enqueue_all(app):
    with app.session() as session:
        parcel = Parcel()
        session.add(parcel)
        parcel.send()
        plain.enqueue(session)
        awaited.enqueue(session)
        session.commit()


def ended(app, count):
    return app.queries.counts().get("default", {}).get("completed", 0) >= count


def names():
    return [name for name, _ in told]


@pytest.mark.parametrize("opener", [open_kit, open_plain_kit])
def test_a_drain_enters_it_for_every_kind_of_body_and_leaves_it(app_with, opener):
    app = app_with(opener)
    enqueue_all(app)

    assert app.drain().counts == {"complete": 3}

    assert (names()[0], names()[-1]) == ("enter", "leave")
    assert sorted(names()[1:-1]) == ["awaited", "chunk", "plain"]
    assert len({id(kit) for _, kit in told}) == 1


def test_a_step_enters_it_too(app_with):
    app = app_with(open_kit)
    enqueue_all(app)

    app.step(3)

    assert (len(told), names()[0], names()[-1]) == (5, "enter", "leave")


@pytest.mark.parametrize("opener", [open_kit, open_plain_kit])
def test_a_worker_enters_it_once_and_leaves_it_after_its_last_job(app_with, opener):
    app = app_with(opener)
    with app.running():
        assert names() == ["enter"]
        enqueue_all(app)
        eventually(lambda: ended(app, 3))
        enqueue_all(app)
        eventually(lambda: ended(app, 6))

    assert (names()[0], names()[-1]) == ("enter", "leave")
    assert names().count("enter") == names().count("leave") == 1
    assert len({id(kit) for _, kit in told}) == 1


def test_each_worker_has_its_own(app_with):
    app = app_with(open_kit)
    with app.running(), app.running():
        pass

    assert len({id(kit) for name, kit in told if name == "enter"}) == 2
    assert names().count("leave") == 2


def test_a_worker_beside_an_event_loop_enters_it_on_its_own(app_with):
    app = app_with(open_kit)

    async def serve():
        async with app.lifespan():
            enqueue_all(app)
            await asyncio.to_thread(eventually, lambda: ended(app, 3))
            return asyncio.get_running_loop()

    ours = asyncio.run(serve())

    assert told[0][1].loop is not ours
    assert names()[-1] == "leave"


def test_a_class_whose_objects_are_context_managers_will_do(app_with):
    class Client:
        async def __aenter__(self):
            return self

        async def __aexit__(self, *raised):
            told.append(("closed", None))

        def __enter__(self):
            raise AssertionError("an async one is entered so")

        def __exit__(self, *raised): ...

    app = app_with(Client)
    app.drain()

    assert told == [("closed", None)]


# What raises -------------------------------------------------------------------------------------


class NoModelError(Exception):
    """What the lifespans of these tests raise."""


@asynccontextmanager
async def open_nothing():
    raise NoModelError("no model")
    yield


@contextmanager
def exit_at_once():
    raise SystemExit("no model")
    yield


@pytest.mark.parametrize(
    ("opener", "error"), [(open_nothing, NoModelError), (exit_at_once, SystemExit)]
)
def test_what_it_raises_at_its_start_is_raised_before_anything_is_claimed(
    app_with, opener, error
):
    app = app_with(opener)
    enqueue_all(app)

    with pytest.raises(error, match="no model"):
        app.drain()
    with pytest.raises(error, match="no model"), app.running():
        raise AssertionError("it does not begin")

    assert [str(job.state) for job in app.queries.jobs()] == ["queued"] * 3
    assert app.queries.nodes() == []


def test_a_worker_whose_lifespan_raised_may_be_started_again(app_with):
    tries = []

    @asynccontextmanager
    async def open_later():
        tries.append(1)
        if len(tries) == 1:
            raise NoModelError("not yet")
        yield Kit(asyncio.get_running_loop(), 0)

    app = app_with(open_later)
    worker = app.worker()
    with pytest.raises(NoModelError):
        worker.start()
    worker.start()
    enqueue_all(app)
    eventually(lambda: ended(app, 3))
    worker.stop()

    assert len(tries) == 2


def test_what_was_opened_is_closed_when_the_worker_does_not_come_to_serve(
    app_with, monkeypatch
):
    app = app_with(open_kit)
    worker = app.worker()

    def refuse():
        raise NoModelError("no row")

    with monkeypatch.context() as patched:
        patched.setattr(worker._node, "register", refuse)
        with pytest.raises(NoModelError):
            worker.start()
    assert names() == ["enter", "leave"]

    worker.start()
    enqueue_all(app)
    eventually(lambda: ended(app, 3))
    worker.stop()
    assert names()[-1] == "leave"


def test_what_does_not_end_is_left_after_a_while(app_with, caplog, monkeypatch):
    monkeypatch.setattr("statejobs.runner.lifespan._ENDS_WITHIN", 0.1)

    @asynccontextmanager
    async def open_for_ever():
        yield Kit(asyncio.get_running_loop(), 0)
        await asyncio.Event().wait()

    app = app_with(open_for_ever)
    with caplog.at_level(logging.WARNING):
        app.drain()

    assert "worker_lifespan did not end within 0.1 s" in caplog.text


@pytest.mark.parametrize("error", [NoModelError("still busy"), SystemExit(3)])
def test_what_it_raises_at_its_end_is_logged_and_the_stop_goes_on(
    app_with, caplog, error
):
    @asynccontextmanager
    async def open_badly():
        yield Kit(asyncio.get_running_loop(), 0)
        raise error

    app = app_with(open_badly)
    worker = app.worker()
    worker.start()
    enqueue_all(app)
    eventually(lambda: ended(app, 3))

    with caplog.at_level(logging.ERROR):
        assert worker.stop()

    assert "worker_lifespan raised at its end" in caplog.text
    assert app.queries.nodes() == []


# What a body asks for ----------------------------------------------------------------------------


def failures(app):
    return [one.failure.message for one in app.drain().ended if one.failure]


def test_a_body_that_asks_for_another_class_is_told_what_there_is(app_with):
    app = app_with(lambda: nullcontext("text"))
    with app.session() as session:
        plain.enqueue(session)
        session.commit()

    assert failures(app) == [
        "ctx.from_lifespan(Kit): worker_lifespan yielded a str; "
        "ask for that, or yield a Kit"
    ]


def test_a_body_that_asks_where_nothing_was_opened_is_told_how(app_with):
    app = app_with(None)
    with app.session() as session:
        plain.enqueue(session)
        session.commit()

    assert failures(app) == [
        "ctx.from_lifespan(Kit): nothing was opened for the worker; "
        "say StateJobs(…, worker_lifespan=…); in a test, give the context lifespan=…"
    ]


def test_a_test_gives_a_context_what_it_shall_find():
    kit = Kit(None, 0)

    contexts = [
        JobContext(session=None, job=None, now=None, lifespan=kit),
        ChunkContext(session=None, records=[], jobs=[], now=None, lifespan=kit),
    ]

    assert [ctx.from_lifespan(Kit) for ctx in contexts] == [kit, kit]


def test_what_is_no_class_is_refused():
    ctx = JobContext(session=None, job=None, now=None, lifespan=1)

    with pytest.raises(WrongValueError, match="takes a class, not 'Kit'"):
        ctx.from_lifespan("Kit")


def test_nothing_is_opened_where_an_app_keeps_nothing_open(app_with):
    app = app_with(None)

    with pytest.raises(StateJobsError, match="nothing was opened"):
        JobContext(session=None, job=None, now=None).from_lifespan(Kit)
    with app._workers.here() as (_, loop):
        assert loop.loop is None


# Bad input ---------------------------------------------------------------------------------------


async def coroutine():
    return None


async def without_decorator():
    yield


FIX = "write @asynccontextmanager above `async def open_client(): …; yield client`"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (7, f"is an int, which cannot be called; {FIX}, and give open_client"),
        (
            nullcontext(),
            "is a nullcontext, which cannot be called; "
            "give what makes it, without calling it: each worker opens one of its own",
        ),
        (
            without_decorator,
            f"makes no context manager when it is called; {FIX}, and give open_client",
        ),
        (
            coroutine,
            f"makes no context manager when it is called; {FIX}, and give open_client",
        ),
        (
            lambda app: nullcontext(),
            "cannot be called without arguments: missing a required argument: 'app'; "
            f"{FIX}, and give open_client",
        ),
    ],
)
def test_what_makes_no_context_manager_is_refused(sqlite_url, given, said):
    with pytest.raises(WrongValueError) as refused:
        StateJobs(sqlite_url, domains=[], worker_lifespan=given)

    assert str(refused.value) == f"StateJobs: worker_lifespan= {said}"


@pytest.mark.parametrize("made", [coroutine, dict], ids=["a coroutine", "a dict"])
def test_what_turns_out_to_make_none_is_refused_when_it_is_entered(app_with, made):
    def hides_it():
        return made()

    app = app_with(hides_it)

    with pytest.raises(WrongValueError, match=r"worker_lifespan returned a \w+, which"):
        app.drain()

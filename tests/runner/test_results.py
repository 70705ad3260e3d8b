"""What a task returns is stored with its job in the commit that completes it; not an action's."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from types import SimpleNamespace

import pytest
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    AsyncJobContext,
    Cancel,
    ChunkContext,
    Domain,
    JobContext,
    JobNotCompletedError,
    NotFoundError,
    StatefulResource,
    StateJobs,
    Trigger,
    WaitTimeoutError,
    WrongValueError,
    state_column,
    task,
)
from statejobs.people.jobs import job_page
from tests.cli.conftest import Shell
from tests.support.clock import ManualClock, manual_sources
from tests.support.processes import eventually


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    NEW = "new"
    DONE = "done"


class Line(Base):
    __tablename__ = "ledger"
    id: Mapped[int] = mapped_column(primary_key=True)


class Sheet(StatefulResource, Base):
    """Whose actions return something."""

    __tablename__ = "sheets"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.NEW)
    copy = Trigger.on_demand("sheet.copy")
    fold = Trigger.on_demand("sheet.fold")
    count = Trigger.on_demand("sheet.count", chunk=10)

    @copy.action(S.NEW, S.DONE)
    def print_it(self, ctx: JobContext) -> int:
        return 7

    @fold.action(S.NEW, S.DONE, atomic=True)
    def bend(self, ctx: JobContext) -> int:
        return 8

    @count.action(S.NEW, S.DONE)
    @staticmethod
    def count_all(sheets: list["Sheet"], ctx: ChunkContext) -> None:
        return len(sheets)


script = SimpleNamespace()


@task("sum.plain", max_attempts=1)
def plain() -> object:
    return script.body(None)


@task("sum.written", max_attempts=1)
def written(ctx: JobContext) -> object:
    ctx.session.add(Line())
    return script.body(ctx)


@task("sum.soon", max_attempts=1)
async def soon(ctx: AsyncJobContext) -> object:
    return script.body(ctx)


TASKS = [plain, written, soon]
DOMAIN = Domain("sums", resources=[Sheet], tasks=TASKS)


@dataclass
class Total:
    amount: int
    day: date


def make_app(database, clock=None):
    sources = None if clock is None else manual_sources(clock)
    return StateJobs(database, domains=[DOMAIN], sources=sources)


@pytest.fixture
def app(database_url):
    script.body = lambda _ctx: None
    with make_app(database_url, ManualClock()) as app:
        app.create_all()
        yield app


def ask(app, request=plain, number=1):
    """Enqueue a task; return the ids of its jobs."""
    with app.session() as session:
        found = request.enqueue_many(session, [{}] * number)
        session.commit()
        return [one.job_id for one in found]


def returned(value):
    """Let every body return that."""
    script.body = lambda _ctx: value


@pytest.mark.parametrize("request_", TASKS, ids=lambda one: one.key)
@pytest.mark.parametrize(
    ("value", "comes_back"),
    [
        ({"sum": [1, 2.5, None, True]}, {"sum": [1, 2.5, None, True]}),
        (Total(5, date(2030, 1, 1)), {"amount": 5, "day": "2030-01-01"}),
        ("a\0b", "a\0b"),
        (0, 0),
        (None, None),
    ],
)
def test_what_a_task_returns_is_read_as_json_values(app, request_, value, comes_back):
    returned(value)
    (job_id,) = ask(app, request_)

    assert app.result(job_id) is None
    app.drain()

    assert app.result(job_id) == comes_back
    assert app.queries.job(job_id).state.value == "completed"


def test_jobs_that_complete_together_have_each_its_own(database_url):
    with make_app(database_url) as app:
        app.create_all()
        numbers = iter(range(40))
        script.body = lambda _ctx: next(numbers) or None
        ids = ask(app, plain, 20) + ask(app, written, 10) + ask(app, soon, 10)
        with app.running():
            eventually(lambda: all(state == "completed" for state in states(app, ids)))
        results = [app.result(job_id) for job_id in ids]

    assert sorted(result or 0 for result in results) == list(range(40))
    assert results.count(None) == 1


def states(app, ids):
    return [app.queries.job(job_id).state.value for job_id in ids]


@pytest.mark.parametrize("request_", TASKS, ids=lambda one: one.key)
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (
            "x" * 70_000,
            "what it returned takes 70002 bytes of JSON, and at most 65536 are stored",
        ),
        (object(), "object has no form in JSON"),
        (float("nan"), "what it returned is nan, and JSON has no such number"),
        ({1: 2}, "what it returned has a key of type int; JSON has only str"),
    ],
)
def test_what_cannot_be_stored_is_told_and_the_job_completes(
    app, caplog, request_, value, says
):
    returned(value)
    (job_id,) = ask(app, request_)

    app.drain()

    assert states(app, [job_id]) == ["completed"]
    assert app.result(job_id) is None
    (record,) = [one for one in caplog.records if one.name == "statejobs.action"]
    assert record.levelname == "WARNING"
    told = f"job {job_id} ({request_.key}) has no result: {says}"
    assert record.getMessage().startswith(told)


def test_64_kb_are_stored(app):
    returned("x" * 65_534)
    (job_id,) = ask(app)

    app.drain()

    assert len(app.result(job_id)) == 65_534


def test_a_job_that_fails_has_none_and_one_that_runs_again_the_new_one(app):
    returned("first")
    (job_id,) = ask(app)
    app.drain()
    app.retry_job(job_id)
    assert app.result(job_id) is None

    returned(None)
    app.drain()

    assert states(app, [job_id]) == ["completed"]
    assert app.result(job_id) is None


def test_a_task_that_returns_something_costs_no_statement_more(app):
    app.drain()
    nothing = statements_of(app, None)
    something = statements_of(app, {"n": 1})

    assert something == nothing


def statements_of(app, value):
    returned(value)
    ask(app)
    sent = []
    event.listen(
        app.store.working, "before_cursor_execute", lambda *told: sent.append(told[2])
    )
    assert len(app.step()) == 1
    return len(sent)


@pytest.mark.parametrize(
    ("action", "number"),
    [(Sheet.print_it, 1), (Sheet.bend, 1), (Sheet.bend, 3), (Sheet.count_all, 3)],
)
def test_what_an_action_returns_is_dropped_with_one_warning_for_its_key(
    app, caplog, action, number
):
    for _ in range(2):
        with app.session() as session:
            sheets = [Sheet() for _ in range(number)]
            session.add_all(sheets)
            session.flush()
            action.enqueue_many(session, sheets)
            session.commit()
        app.drain()

    told = [one.getMessage() for one in caplog.records if one.levelno > logging.INFO]
    assert told == [
        f"action {action.name!r} of {action.spec.trigger.options.key} returned a value of "
        "type int, which is dropped: its result is its record; let a task return it, or "
        "write it to a column"
    ]
    assert {job.result for job in app.queries.jobs()} == {None}


# People ---------------------------------------------------------------------------------------


def test_job_show_shows_it_without_secrets(database_url):
    with make_app(database_url) as app:
        app.create_all()
        returned({"token": "t0p", "pages": 3})
        (job_id,) = ask(app)
        app.drain()
        typed = Shell("tests.runner.test_results:make_app", database_url)

        shown = typed("job", "show", str(job_id)).stdout
        document = typed.json("job", "show", str(job_id))
        page = job_page(app.desk, app.queries.job(job_id))

    assert '{"pages": 3, "token": "***"}' in shown
    assert document["result"] == page.result == {"token": "***", "pages": 3}


def test_wait_returns_the_result_once_a_worker_has_ended_the_job(database_url):
    with make_app(database_url) as app:
        app.create_all()
        returned([1])
        (job_id,) = ask(app)
        with app.running():
            assert app.wait(job_id, timeout=timedelta(seconds=30)) == [1]
            (later,) = ask(app)
            awaited = app.wait_async(later, timeout=timedelta(seconds=30))
            assert asyncio.run(_of(awaited)) == [1]


async def _of(awaitable):
    return await awaitable


def test_wait_gives_up_in_time(app):
    (job_id,) = ask(app)
    began = app.sources.clock.now()

    with pytest.raises(WaitTimeoutError) as raised:
        app.wait(job_id, timeout=timedelta(seconds=5))

    assert str(raised.value) == (
        f"job {job_id} is queued after 0:00:05: no worker has run it to its end in that "
        f"time; see: statejobs job show {job_id}"
    )
    assert app.sources.clock.now() - began == timedelta(seconds=5)


def test_a_job_that_was_cancelled_raises_with_its_reason(app):
    def body(_ctx):
        raise Cancel("no paper")

    script.body = body
    (job_id,) = ask(app)
    app.drain()

    with pytest.raises(JobNotCompletedError) as raised:
        app.wait(job_id)

    assert raised.value.job.outcome.value == "cancelled"
    assert str(raised.value).startswith(
        f"sum.plain: job {job_id} is cancelled: no paper"
    )


@pytest.mark.parametrize("ask_for", ["result", "wait"])
def test_a_job_that_is_not_there_is_told(app, ask_for):
    with pytest.raises(NotFoundError, match="no job 77"):
        getattr(app, ask_for)(77)
    with pytest.raises(WrongValueError, match="takes the number of a job"):
        getattr(app, ask_for)("77")


def test_a_wait_without_a_unit_is_refused(app):
    with pytest.raises(WrongValueError, match="must be a timedelta, not 5"):
        app.wait(1, timeout=5)

"""A task as its caller sees it: called, enqueued in the caller's transaction, refused."""

import asyncio
import random
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from statejobs import (
    ArgumentsError,
    ConfigurationError,
    Enqueued,
    JobContext,
    JobState,
    SchemaError,
    acting_as,
    task,
    tenant,
)
from statejobs.store.engines.asyncio import open_async_engine
from statejobs.store.tables import jobs
from tests.resource.support import statements_on
from tests.support.shop import Order, StoppedClock, new_order, read_jobs

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Place:
    town: str
    room: int = 0


@task("report.daily", queue="reports", priority=4, max_attempts=3, tags=["report"])
def daily(day: date, *, place: Place | None = None, copies: int = 1) -> str:
    """Print the report."""
    return f"{day} {place} {copies}"


@task("report.note")
def note(ctx: JobContext, text: str) -> tuple[object, str]:
    return ctx, text


@task("report.fetch")
async def fetch(url: str) -> str:
    return url


DAY = date(2026, 1, 1)


# Call --------------------------------------------------------------------------------------------


def test_calling_it_runs_the_body_here(engine):
    assert daily(DAY, copies=2) == "2026-01-01 None 2"
    assert note("any context", "hello") == ("any context", "hello")
    assert asyncio.run(fetch("x")) == "x"
    assert read_jobs(engine) == []


def test_it_keeps_the_name_and_the_docstring_of_the_function():
    assert (daily.__name__, daily.__doc__) == ("daily", "Print the report.")
    assert (daily.key, daily.name, repr(daily)) == (
        "report.daily",
        "daily",
        "<task report.daily>",
    )
    assert (daily.spec.is_async, fetch.spec.is_async) == (False, True)
    assert (daily.spec.takes_context, note.spec.takes_context) == (False, True)


# Enqueue -----------------------------------------------------------------------------------------


def test_enqueue_writes_a_job_without_a_record(session, engine):
    session.info["statejobs.clock"] = clock = StoppedClock()

    with acting_as("user:7"), tenant("acme"):
        result = daily.enqueue(session, DAY, place=Place("Ulm"))
    session.commit()

    [job] = read_jobs(engine)
    assert (result.job_id, result.outcome) == (job.id, Enqueued.INSERTED)
    assert (job.key, job.queue, job.priority, job.max_attempts) == (
        "report.daily",
        "reports",
        4,
        3,
    )
    assert (job.resource, job.record_id, job.dedupe_key) == (None, None, None)
    assert job.args == '{"day":"2026-01-01","place":{"room":0,"town":"Ulm"}}'
    assert (job.actor, job.tenant, job.tags) == ("user:7", "acme", '["report"]')
    assert (job.state, job.run_at, job.enqueued_at) == (
        JobState.QUEUED,
        clock.at,
        clock.at,
    )
    assert (job.attempt, job.crashes, job.run_again) == (0, 0, False)


def test_the_context_is_no_argument(session, engine):
    note.enqueue(session, "hello")
    session.commit()

    assert read_jobs(engine)[0].args == '{"text":"hello"}'


def test_each_request_is_a_job_of_its_own(session, engine):
    first, second = daily.enqueue(session, DAY), daily.enqueue(session, DAY)
    session.commit()

    found = read_jobs(engine)
    assert [job.id for job in found] == [first.job_id, second.job_id]
    assert found[0].idempotency_key != found[1].idempotency_key


@pytest.mark.parametrize(
    ("options", "state", "wait"),
    [
        ({"delay": timedelta(hours=1)}, JobState.SCHEDULED, timedelta(hours=1)),
        (
            {"run_at": StoppedClock().at + timedelta(days=1)},
            JobState.SCHEDULED,
            timedelta(days=1),
        ),
        (
            {"run_at": StoppedClock().at - timedelta(days=1)},
            JobState.QUEUED,
            timedelta(days=-1),
        ),
        ({}, JobState.QUEUED, timedelta()),
    ],
    ids=["delay", "later", "past", "now"],
)
def test_options_say_when(session, engine, options, state, wait):
    session.info["statejobs.clock"] = clock = StoppedClock()

    daily.options(**options).enqueue(session, DAY)
    session.commit()

    [job] = read_jobs(engine)
    assert (job.state, job.run_at - clock.at) == (state, wait)


def test_options_add_up_and_leave_the_task_as_it_was(session, engine):
    daily.options(delay=timedelta(1)).options(priority=0).enqueue(session, DAY)
    daily.enqueue(session, DAY)
    session.commit()

    assert [(job.priority, job.state) for job in read_jobs(engine)] == [
        (0, JobState.SCHEDULED),
        (4, JobState.QUEUED),
    ]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"run_at": datetime(2030, 1, 1)}, "no time zone"),  # noqa: DTZ001 - that is the mistake
        (
            {"run_at": datetime(2030, 1, 1, tzinfo=UTC), "delay": timedelta(1)},
            "not both",
        ),
        ({"delay": timedelta(-1)}, "negative"),
        ({"priority": 10}, "between 0"),
    ],
)
def test_options_that_contradict_themselves_are_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        daily.options(**options)


# In the caller's transaction ---------------------------------------------------------------------


def test_a_rollback_takes_the_job_with_it(session, engine):
    session.add(Order(total=1))
    daily.enqueue(session, DAY)
    session.rollback()

    assert read_jobs(engine) == []


def test_a_rollback_to_a_savepoint_takes_the_jobs_since_then(session, engine):
    daily.enqueue(session, DAY)
    with session.begin_nested() as savepoint:
        daily.enqueue(session, DAY)
        savepoint.rollback()
    session.commit()

    assert len(read_jobs(engine)) == 1


def test_it_uses_the_sessions_own_connection(engine):
    with engine.connect() as connection, connection.begin() as outer:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            daily.enqueue(session, DAY)
            session.commit()
        outer.rollback()

    assert read_jobs(engine) == []


def test_it_flushes_nothing_of_the_callers(session):
    order = Order(total=1)
    session.add(order)

    daily.enqueue(session, DAY)

    assert order in session.new


def test_a_session_that_is_bound_to_models_only_is_told_what_to_add(engine):
    no_engine = pytest.raises(
        ConfigurationError, match=r"(?s)no engine for the job tables.*binds"
    )
    with Session(binds={Order: engine}) as session, no_engine:
        daily.enqueue(session, DAY)

    with Session(binds={Order: engine, jobs: engine}) as session:
        daily.enqueue(session, DAY)
        session.commit()
    assert len(read_jobs(engine)) == 1


def test_through_an_async_session(engine):
    async def enqueue():
        opened = open_async_engine(engine)
        async with AsyncSession(opened) as session:
            await daily.enqueue_async(session, DAY)
            await session.rollback()
            found = await daily.options(priority=1).enqueue_async(
                session, DAY, copies=3
            )
            many = await session.run_sync(
                lambda sync: note.enqueue_many(sync, [{"text": "a"}])
            )
            await session.commit()
        await opened.dispose()
        return [found.job_id, many[0].job_id]

    ids = asyncio.run(enqueue())

    first, second = read_jobs(engine)
    assert ids == [first.id, second.id]
    assert (first.priority, first.args) == (1, '{"copies":3,"day":"2026-01-01"}')
    assert (second.key, second.args) == ("report.note", '{"text":"a"}')


WAKES = """
import sys, threading
from datetime import timedelta
from statejobs import Domain, StateJobs, WorkerSettings, task

done = threading.Event()

@task("report.wake")
def wake() -> None:
    done.set()

app = StateJobs(
    sys.argv[1],
    domains=[Domain("d", tasks=[wake])],
    settings=WorkerSettings(poll=timedelta(minutes=10)),
)
with app.running():
    threading.Event().wait(1)  # it found nothing, and would look again in ten minutes
    with app.session() as session:
        wake.enqueue(session)
        session.commit()
    sys.exit(0 if done.wait(120) else 1)
"""


def test_an_idle_worker_is_woken_in_an_app_that_has_no_resource(engine):
    url = engine.url.render_as_string(hide_password=False)

    ran = subprocess.run(
        [sys.executable, "-c", WAKES, url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr


# Many --------------------------------------------------------------------------------------------


def test_many_are_one_insert_with_results_in_their_order(session, engine, seed):
    numbers = random.Random(seed).sample(range(10_000), 3_000)
    calls = [{"day": DAY, "copies": number} for number in numbers]

    with statements_on(engine) as count:
        results = daily.options(priority=2).enqueue_many(session, calls)
        inserts = count("INSERT INTO statejobs_jobs")
    session.commit()

    found = {job.id: job for job in read_jobs(engine)}
    asked = [f'{{"copies":{number},"day":"2026-01-01"}}' for number in numbers]
    assert inserts == 1
    assert [found[result.job_id].args for result in results] == asked
    assert {result.outcome for result in results} == {Enqueued.INSERTED}
    assert len({job.idempotency_key for job in found.values()}) == 3_000
    assert {(job.priority, job.queue, job.max_attempts) for job in found.values()} == {
        (2, "reports", 3)
    }


def test_none_are_no_work(session, engine):
    with statements_on(engine) as count:
        assert daily.enqueue_many(session, []) == []
        assert count("") == 0


@pytest.mark.parametrize(
    "hard",
    [
        "\x00",
        '"\\',
        "\u2028",
        "ü" * 1000,
        "\U0001f4e6",
        "'; DROP TABLE statejobs_jobs; --",
        "\\u0000",
    ],
    ids=ascii,
)
def test_text_comes_back_as_it_was(session, engine, hard):
    note.enqueue(session, hard)
    note.enqueue_many(session, [{"text": hard}, {"text": "plain"}])
    session.commit()

    decoded = [
        note.spec.signature.decode(job.args)["text"] for job in read_jobs(engine)
    ]
    assert decoded == [hard, hard, "plain"]


# Refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "argument 'day' is missing"),
        ((DAY, 2), {}, "takes at most 1 by position, but 2 were given"),
        ((DAY,), {"day": DAY}, "argument 'day' is given twice"),
        ((DAY,), {"copie": 2}, "argument 'copie' is unknown; did you mean 'copies'"),
        (
            ("2026-01-01",),
            {},
            "argument 'day' cannot be stored: day is str, but would come back",
        ),
        ((datetime(2026, 1, 1, tzinfo=UTC),), {}, "argument 'day' cannot be stored"),
        ((DAY,), {"place": object()}, "argument 'place' cannot be stored"),
    ],
)
def test_arguments_that_would_not_survive_are_refused(
    session, engine, args, kwargs, problem
):
    with pytest.raises(ArgumentsError, match=problem):
        daily.enqueue(session, *args, **kwargs)

    session.commit()
    assert read_jobs(engine) == []


def test_one_wrong_call_of_many_is_named_and_nothing_is_written(session, engine):
    with pytest.raises(
        ArgumentsError, match="argument 'day' of call 2 of 3 is missing"
    ) as refused:
        daily.enqueue_many(session, [{"day": DAY}, {"copies": 1}, {"day": DAY}])

    session.commit()
    assert (refused.value.action, refused.value.parameter) == ("daily", "day")
    assert read_jobs(engine) == []


def test_calls_are_mappings(session):
    with pytest.raises(
        ArgumentsError, match="is date, not a mapping of names to values"
    ):
        daily.enqueue_many(session, [DAY])


def test_the_caller_may_go_on_after_a_refusal(session, engine):
    key = new_order(engine)
    with pytest.raises(ArgumentsError):
        daily.enqueue(session, "no day")
    session.get(Order, key).total = 7
    session.commit()

    with Session(engine) as other:
        assert other.get(Order, key).total == 7


def test_without_tables_the_error_says_how_to_make_them(database_url):
    from statejobs.store.engines.factory import open_engine

    opened = open_engine(database_url)
    with Session(opened) as session, pytest.raises(SchemaError, match="db upgrade"):
        daily.enqueue(session, DAY)
    opened.dispose()

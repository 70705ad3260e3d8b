"""A task's job has no record; it goes every way that a job can go."""

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from functools import wraps

import pytest
from sqlalchemy import event, update
from sqlalchemy.exc import OperationalError

from statejobs import (
    Cancel,
    Domain,
    JobOutcome,
    JobState,
    Snooze,
    Stale,
    StateJobs,
    acting_as,
    task,
    tenant,
)
from statejobs.errors import NotFoundError, TransitionRefusedError
from statejobs.events import JobEnded, JobsClaimed, JobStarted
from statejobs.runner import together
from statejobs.store.tables import jobs
from statejobs.values.lifecycle import JOB_MACHINE
from tests.support.clock import ManualClock, manual_sources
from tests.support.errands import (
    DAY,
    Line,
    ask,
    errand,
    fetch,
    fetch_plain,
    household,
    job,
    lines,
    plain,
    reset,
    script,
    slow,
    tried,
)
from tests.support.parcels import (
    BACKOFF,
    LEASE,
    Parcel,
    enqueue,
    reset_script,
    run_async,
    state_of,
)
from tests.support.parcels import script as parcel_script
from tests.support.processes import DEADLINE


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def app(database_url, clock):
    with household(database_url, clock=clock) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _forget_script():
    yield
    reset()
    reset_script()


def write(ctx, *_args):
    ctx.session.add(Line(text=f"attempt {ctx.attempt}"))


def write_and_raise(error):
    def body(ctx, *_args):
        write(ctx)
        ctx.session.flush()
        raise error

    return body


def discard(app, clock):
    """Run what is due until its attempts are used up."""
    for _ in range(3):
        app.drain()
        clock.advance(BACKOFF)


# Complete ----------------------------------------------------------------------------------------


def test_runs_the_body_with_its_arguments_and_completes(app):
    seen = []
    script.errand = lambda ctx, day, note: seen.append((ctx.attempt, day, note))
    job_id = ask(app, note="milk")

    (ended,) = app.step()

    done = job(app, job_id)
    assert seen == [(1, DAY, "milk")]
    assert (ended.outcome, ended.state) == ("complete", JobState.COMPLETED)
    assert (done.state, done.attempt, done.reason) == (JobState.COMPLETED, 1, None)
    assert (done.owner, done.token, done.lease_until) == (None, None, None)
    assert (done.resource, done.record_id, done.record_source) == (None, None, None)
    assert tried(app, job_id) == []


def test_what_the_body_writes_commits_with_the_outcome(app):
    script.errand = write
    ask(app)

    app.drain()

    assert lines(app) == ["attempt 1"]


def statements_of(app, act):
    """What *act* sends to the database, by its first word."""
    seen = []

    def listen(_connection, _cursor, statement, *_rest):
        seen.append(statement.split()[0])

    event.listen(app.engine, "before_cursor_execute", listen)
    act()
    event.remove(app.engine, "before_cursor_execute", listen)
    return seen


def one_statement(app):
    """The first word of the statement that ends a task."""
    return "UPDATE" if app.store.dialect == "sqlite" else "WITH"


@pytest.mark.parametrize("request_", [plain, errand], ids=["without", "with"])
def test_a_body_that_wrote_nothing_ends_with_one_statement(app, request_):
    ask(app, request_, 7 if request_ is plain else DAY)
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)

    sent = statements_of(app, lambda: runner.run(claim))

    assert sent == [one_statement(app)]


def test_a_body_that_only_read_ends_without_a_transaction(app):
    script.errand = lambda ctx, *_: ctx.session.query(Line).all()
    ask(app)
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)

    sent = statements_of(app, lambda: runner.run(claim))

    assert sent == ["SELECT", one_statement(app)]


def successes(app, runner, number):
    """Run the bodies of so many claimed jobs; nothing is committed yet."""
    return [
        runner.attempts.run([claim])[0]
        for claim in runner.claim("default", limit=number)
    ]


def test_many_successes_are_committed_with_few_statements(app):
    with app.session() as session:
        plain.enqueue_many(session, [{"number": number} for number in range(20)])
        session.commit()
    runner = app.runner()
    done = successes(app, runner, 20)

    sent = statements_of(app, lambda: runner.finisher.finish_many(done))

    assert sent.count("UPDATE") + sent.count("WITH") == 1
    assert {job.state for job in app.queries.jobs()} == {JobState.COMPLETED}
    assert {(job.token, job.owner) for job in app.queries.jobs()} == {(None, None)}


def test_of_many_successes_those_that_were_lost_are_left_out(app, clock):
    lost = ask(app, plain, 1)
    slow_node, other_node = app.runner(), app.runner()
    done = successes(app, slow_node, 1)
    clock.advance(LEASE + timedelta(seconds=1))
    other_node.rescue()
    kept = ask(app, plain.options(priority=9), 2)
    other_node.claim("default", limit=1)
    done += successes(app, slow_node, 1)

    ended, left = slow_node.finisher.finish_many(done)
    ended += [slow_node.finisher.finish(success) for success in left]

    outcomes = {one.job.id: one.outcome for one in ended}
    assert outcomes == {lost: "late", kept: "complete"}
    assert (job(app, lost).state, job(app, kept).state) == (
        JobState.PROCESSING,
        JobState.COMPLETED,
    )


def test_successes_of_tasks_and_actions_are_committed_together(app):
    ask(app, plain, 1)
    enqueue(app, Parcel, "send_off")
    runner = app.runner()
    done = successes(app, runner, 2)

    ended, left = runner.finisher.finish_many(done)

    assert [one.outcome for one in ended] == ["complete", "complete"]
    assert left == []
    assert state_of(app, Parcel, 1) == "sent"


def test_an_error_among_the_actions_takes_nothing_from_the_tasks(app, monkeypatch):
    job_id = ask(app, plain, 1)
    enqueue(app, Parcel, "send_off")
    runner = app.runner()
    done = successes(app, runner, 2)

    def fail(*_args, **_kwargs):
        raise OperationalError("UPDATE parcels", {}, Exception("a lock timed out"))

    monkeypatch.setattr(together, "land_given", fail)
    monkeypatch.setattr(together, "land_each", fail)
    ended, left = runner.finisher.finish_many(done)

    assert [one.job.id for one in ended] == [job_id]
    assert [runner.finisher.finish(success).outcome for success in left] == ["complete"]


def test_an_object_that_was_only_added_is_written(app):
    script.errand = lambda ctx, *_: ctx.session.add(
        Line(text="never flushed by the body")
    )
    ask(app)

    app.drain()

    assert lines(app) == ["never flushed by the body"]


def test_a_task_enqueues_another_with_its_own_outcome(app):
    script.errand = lambda ctx, *_: plain.enqueue(ctx.session, number=3)
    seen = []
    script.plain = seen.append
    ask(app)

    assert app.drain().counts == {"complete": 2}
    assert seen == [3]


def test_a_task_that_an_action_enqueues_is_undone_when_the_action_fails(app):
    def send_off(_parcel, ctx):
        plain.enqueue(ctx.session, number=3)
        raise ValueError

    parcel_script.send = send_off
    enqueue(app, Parcel, "send_off")

    assert app.drain().counts == {"fail": 1}
    assert app.queries.jobs(key="errand.plain") == []


def test_the_body_acts_for_the_actor_and_tenant_of_its_job(app):
    seen = []
    script.errand = lambda ctx, *_: seen.append(
        (ctx.actor, ctx.tenant, ask(app, plain, 1))
    )
    with acting_as("user:7"), tenant("acme"):
        ask(app)

    app.step()

    ((actor, of, other),) = seen
    assert (actor, of) == ("user:7", "acme")
    assert (job(app, other).actor, job(app, other).tenant) == ("user:7", "acme")


def test_subscribers_hear_of_tasks(app):
    heard = []
    app.telemetry.subscribe(heard.append)
    ask(app, plain, 1)

    app.drain()

    assert [type(one) for one in heard] == [
        JobsClaimed,
        JobStarted,
        JobEnded,
    ]
    assert heard[-1].job.key == "errand.plain"


# One runner for both -----------------------------------------------------------------------------


def test_tasks_and_actions_are_claimed_together_in_the_order_of_their_priority(app):
    order = []
    parcel_script.send = lambda *_: order.append("parcel")
    script.errand = lambda *_: order.append("errand")
    script.plain = order.append
    ask(app, plain.options(priority=9), 9)
    enqueue(app, Parcel, "send_off", priority=5)
    ask(app, plain.options(priority=1), 1)
    ask(app, errand.options(priority=3), DAY)
    runner = app.runner()

    claims = runner.claim("default", limit=10)
    for claim in claims:
        runner.run(claim)

    assert order == [1, "errand", "parcel", 9]
    assert state_of(app, Parcel, 1) == "sent"


def test_a_job_under_a_former_key_is_run(app):
    job_id = ask(app)
    with app.engine.begin() as connection:
        connection.execute(update(jobs).values(key="errand.go"))

    assert app.drain().counts == {"complete": 1}
    assert job(app, job_id).state is JobState.COMPLETED


def test_a_worker_in_this_process_runs_it_soon(database_url):
    done = threading.Event()
    script.plain = lambda _number: done.set()
    with household(database_url) as app, app.running():
        ask(app, plain, 1)

        assert done.wait(DEADLINE)


# Fail and discard --------------------------------------------------------------------------------


def test_a_failure_rolls_back_and_waits_for_the_backoff(app, clock):
    script.errand = write_and_raise(ValueError("no milk"))
    job_id = ask(app)

    (ended,) = app.step()

    failed = job(app, job_id)
    assert (ended.outcome, failed.state) == ("fail", JobState.FAILED)
    assert failed.reason == "ValueError: no milk"
    assert failed.run_at == clock.now() + BACKOFF
    assert lines(app) == []
    assert tried(app, job_id) == [(1, "failed", "ValueError")]


def test_a_write_that_the_database_refuses_at_the_commit_fails_the_attempt(app):
    script.errand = lambda ctx, *_: ctx.session.add(Line(text=None))
    job_id = ask(app)

    app.drain()

    assert tried(app, job_id) == [(1, "failed", "sqlalchemy.exc.IntegrityError")]


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
)
def test_whatever_is_raised_is_a_failure(app, error):
    script.errand = write_and_raise(error)
    job_id = ask(app)

    app.drain()

    assert job(app, job_id).state is JobState.FAILED


def test_exactly_once_when_only_the_last_attempt_goes_well(app, clock):
    def body(ctx, *_args):
        write(ctx)
        if ctx.attempt < 3:
            raise ValueError

    script.errand = body
    ask(app)

    discard(app, clock)

    assert lines(app) == ["attempt 3"]


def test_attempts_used_up_discard_the_job_and_tell(app, clock):
    told = []

    def tell(session, reason, day, note):
        session.add(Line(text="gave up"))
        told.append((reason, day, note))

    script.errand, script.told = write_and_raise(ValueError()), tell
    job_id = ask(app, note="milk")

    discard(app, clock)

    assert (job(app, job_id).state, job(app, job_id).attempt) == (JobState.DISCARDED, 3)
    assert told == [("failed: ValueError", DAY, "milk")]
    assert lines(app) == ["gave up"]
    assert [outcome for _, outcome, _ in tried(app, job_id)] == ["failed"] * 3


def test_a_failing_on_discard_is_recorded_and_blocks_nothing(app, clock):
    def tell(session, *_args):
        session.add(Line(text="half"))
        session.flush()
        raise RuntimeError("no mail")

    script.errand, script.told = write_and_raise(ValueError()), tell
    job_id = ask(app)

    discard(app, clock)

    assert job(app, job_id).state is JobState.DISCARDED
    assert lines(app) == []
    assert tried(app, job_id)[-1] == (3, "on_discard", "RuntimeError")


def test_what_on_discard_enqueues_commits_with_the_discard(app, clock):
    script.errand = write_and_raise(ValueError())
    script.told = lambda session, *_: plain.enqueue(session, 1)
    ask(app)

    discard(app, clock)

    (other,) = app.queries.jobs(key="errand.plain")
    assert (other.state, other.enqueued_at) == (
        JobState.COMPLETED,
        clock.now() - BACKOFF,
    )


def test_stored_arguments_that_no_longer_fit_fail_the_attempt_before_the_body(
    app, clock
):
    script.errand = lambda *_: pytest.fail("the body was called")
    job_id = ask(app)
    with app.engine.begin() as connection:
        connection.execute(update(jobs).values(args='{"date":"2030-01-01"}'))

    app.drain()
    assert app.queries.attempts(job_id) == []
    clock.advance(minutes=13)  # no worker of another version came
    app.drain()

    (row,) = app.queries.attempts(job_id)
    assert row["error_type"].endswith("ArgumentsError")
    assert "errand: argument 'date' is unknown; known: day, note" in row["message"]


def test_a_body_that_commits_fails_the_attempt(app):
    def body(ctx, *_args):
        write(ctx)
        ctx.session.commit()

    script.errand = body
    job_id = ask(app)

    app.drain()

    assert tried(app, job_id) == [(1, "failed", "statejobs.errors.StateJobsError")]
    assert lines(app) == []


# Snooze, cancel, timeout -------------------------------------------------------------------------


def test_a_snooze_runs_again_later_and_spends_no_attempt(app, clock):
    script.errand = write_and_raise(Snooze(minutes=5, reason="the shop is closed"))
    job_id = ask(app)

    app.drain()

    waits = job(app, job_id)
    assert (waits.state, waits.attempt) == (JobState.SCHEDULED, 0)
    assert (waits.run_at, waits.reason) == (
        clock.now() + timedelta(minutes=5),
        "the shop is closed",
    )
    assert lines(app) == []


def test_a_cancel_by_the_body_stops_the_job_and_tells(app):
    told = []
    script.errand = write_and_raise(Cancel("no such shop"))
    script.told = lambda _session, reason, *_: told.append(reason)
    job_id = ask(app)

    app.drain()

    assert (job(app, job_id).state, job(app, job_id).reason) == (
        JobState.CANCELLED,
        "no such shop",
    )
    assert tried(app, job_id) == [(1, "cancelled", None)]
    assert (told, lines(app)) == (["no such shop"], [])


def test_a_task_that_is_stale_ends_and_spends_no_attempt(app):
    told = []
    script.errand = write_and_raise(Stale("bought already"))
    script.told = lambda *told_of: told.append(told_of)
    job_id = ask(app)

    app.drain()

    ended = job(app, job_id)
    assert (ended.state, ended.outcome) == (JobState.CANCELLED, JobOutcome.STALE)
    assert (ended.reason, ended.attempt) == ("stale: bought already", 0)
    assert (tried(app, job_id), told, lines(app)) == ([], [], [])


def test_a_timeout_ends_the_attempt(app):
    asked = threading.Event()

    def body(ctx, *_args):
        write(ctx)
        while not ctx.cancel_requested:
            threading.Event().wait(0.01)
        asked.set()

    script.errand = body
    job_id = ask(app, slow)

    app.drain()

    assert asked.wait(DEADLINE)
    assert tried(app, job_id) == [(1, "failed", "TimeoutError")]
    assert lines(app) == []


def test_a_thread_that_goes_on_after_its_timeout_writes_nothing(app):
    go_on, ended = threading.Event(), threading.Event()

    def body(ctx, *_args):
        go_on.wait(DEADLINE)
        write(ctx)
        ended.set()

    script.errand = body
    job_id = ask(app, slow)

    app.drain()
    go_on.set()

    assert ended.wait(DEADLINE)
    assert (job(app, job_id).state, lines(app)) == (JobState.DISCARDED, [])


# Crash, rescue, release, late --------------------------------------------------------------------


def test_a_job_whose_worker_died_is_run_again_and_given_up_in_the_end(app, clock):
    told = []
    script.told = lambda _session, reason, *_: told.append(reason)
    job_id = ask(app)
    states = []
    for _ in range(2):
        assert len(app.runner().claim("default", limit=5)) == 1
        clock.advance(LEASE + timedelta(seconds=1))
        assert app.runner().rescue() == 1
        states.append(job(app, job_id).state)

    assert states == [JobState.QUEUED, JobState.DISCARDED]
    assert job(app, job_id).crashes == 2
    assert [outcome for _, outcome, _ in tried(app, job_id)] == ["crashed", "crashed"]
    assert told == ["crashed: the worker's lease ran out"]


@pytest.mark.parametrize("writes", [True, False], ids=["writing", "not writing"])
def test_a_late_result_is_dropped_with_its_writes(app, clock, writes):
    script.errand = write if writes else lambda *_: None
    job_id = ask(app)
    slow_node, other_node = app.runner(), app.runner()
    (claim,) = slow_node.claim("default", limit=1)
    clock.advance(LEASE + timedelta(seconds=1))
    other_node.rescue()
    (again,) = other_node.claim("default", limit=1)

    late = slow_node.run(claim)

    assert (late.outcome, late.state) == ("late", None)
    assert (job(app, job_id).state, lines(app)) == (JobState.PROCESSING, [])
    assert other_node.run(again).outcome == "complete"
    assert lines(app) == (["attempt 2"] if writes else [])


def test_a_release_gives_the_attempt_back(app):
    job_id = ask(app)
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)

    ended = runner.finisher.release(claim)

    assert (ended.outcome, job(app, job_id).state) == ("release", JobState.QUEUED)
    assert job(app, job_id).attempt == 0


# People ------------------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled(app):
    job_id = ask(app)

    assert app.cancel_job(job_id, reason="not today") is JobState.CANCELLED
    assert job(app, job_id).reason == "not today"
    assert app.drain().counts == {}


def test_a_running_job_is_asked_to_stop_and_ends_as_cancelled(app):
    def body(ctx, *_args):
        assert app.cancel_job(ctx.job.id, reason="not today") is JobState.PROCESSING
        ctx.cancel_signal.set("not today")
        assert ctx.cancel_requested
        raise RuntimeError("stopped")

    script.errand = body
    job_id = ask(app)
    runner = app.runner()
    (claim,) = runner.claim("default", limit=1)

    assert runner.run(claim).outcome == "cancel"
    assert (job(app, job_id).state, job(app, job_id).reason) == (
        JobState.CANCELLED,
        "not today",
    )


@pytest.mark.parametrize("error", [ValueError(), Cancel("no"), None], ids=repr)
def test_a_person_lets_an_ended_job_go_on_as_the_same_row(app, clock, error):
    script.errand = write_and_raise(error) if error else lambda *_: None
    job_id = ask(app)
    discard(app, clock)
    before = job(app, job_id)
    script.errand = write

    assert app.retry_job(job_id) is JobState.QUEUED
    queued = job(app, job_id)
    app.drain()

    after = job(app, job_id)
    assert queued.max_attempts == before.attempt + 3
    assert (after.state, after.attempt) == (JobState.COMPLETED, before.attempt + 1)
    assert after.idempotency_key == before.idempotency_key
    assert lines(app) == [f"attempt {after.attempt}"]


def test_a_person_ends_the_waiting_of_a_failed_job(app):
    script.errand = write_and_raise(ValueError())
    job_id = ask(app)
    app.drain()
    script.errand = write

    app.retry_job(job_id)

    assert app.drain().counts == {"complete": 1}


def test_a_running_job_cannot_be_retried(app):
    job_id = ask(app)
    app.runner().claim("default", limit=1)

    with pytest.raises(TransitionRefusedError, match="wait for its end, or cancel it"):
        app.retry_job(job_id)


def test_a_job_whose_task_is_gone_can_be_cancelled_but_not_retried(app):
    job_id = ask(app)
    with app.engine.begin() as connection:
        connection.execute(update(jobs).values(key="errand.gone"))

    with pytest.raises(
        NotFoundError, match=r"'errand\.gone'.*renamed without an alias"
    ):
        app.retry_job(job_id)
    assert app.cancel_job(job_id) is JobState.CANCELLED


# Notes -------------------------------------------------------------------------------------------


def test_a_checkpoint_outlives_the_attempt_and_progress_is_shown(app, clock):
    def body(ctx, *_args):
        done = ctx.checkpoint.get("done", 0)
        ctx.checkpoint["done"] = done + 1
        ctx.progress(done + 1, 2)
        if done == 0:
            raise ValueError

    script.errand = body
    job_id = ask(app)
    app.drain()
    first = job(app, job_id)
    clock.advance(BACKOFF)

    app.drain()

    last = job(app, job_id)
    assert (first.checkpoint, first.progress) == ('{"done":1}', None)  # it waits again
    assert (last.state, last.progress) == (JobState.COMPLETED, '{"done":2,"total":2}')


def test_a_checkpoint_after_a_write_outlives_it(app):
    def body(ctx, *_args):
        write(ctx)
        ctx.session.flush()
        ctx.checkpoint["done"] = 1
        raise ValueError

    script.errand = body
    job_id = ask(app)

    app.drain()

    assert (job(app, job_id).checkpoint, lines(app)) == ('{"done":1}', [])


# Async -------------------------------------------------------------------------------------------


def test_an_async_task_writes_with_its_outcome(app, clock):
    async def body(ctx, url):
        ctx.session.add(Line(text=f"{url} {ctx.attempt}"))
        await ctx.session.flush()
        if ctx.attempt == 1:
            raise ValueError

    script.fetch = body
    job_id = ask(app, fetch, url="a")

    discard(app, clock)

    assert lines(app) == ["a 2"]
    assert (job(app, job_id).state, job(app, job_id).attempt) == (JobState.COMPLETED, 2)


def test_an_async_task_that_wrote_nothing_ends_with_one_statement(app):
    seen = []

    async def body(_ctx, url):
        await asyncio.sleep(0)
        seen.append(url)

    script.fetch = body
    ask(app, fetch_plain, "a")
    ask(app, fetch, "b")
    claims = app.runner().claim("default", limit=2)

    sent = statements_of(app, lambda: [run_async(app, claim) for claim in claims])

    assert seen == ["a", "b"]
    assert sent == [one_statement(app)] * 2


def test_an_async_task_without_a_context_opens_no_async_engine(app, monkeypatch):
    monkeypatch.delattr("statejobs.store.engines.asyncio.open_async_engine")
    ask(app, fetch_plain, "a")

    assert app.drain().counts == {"complete": 1}


def test_a_coroutine_that_a_decorator_hid_fails_the_attempt(database_url):
    def hide(body):
        @wraps(body)
        def plainly():
            return body()

        return plainly

    @task("errand.hidden", max_attempts=1)
    @hide
    async def hidden() -> None: ...

    clock = ManualClock()
    app = StateJobs(
        database_url,
        domains=[Domain("d", tasks=[hidden])],
        sources=manual_sources(clock),
    )
    app.create_all()
    job_id = ask(app, hidden)

    app.drain()

    (row,) = app.queries.attempts(job_id)
    assert "task 'hidden' returned a coroutine, which was not run" in row["message"]
    app.engine.dispose()


def test_an_async_task_may_snooze_cancel_and_be_stale(app):
    asked = {"a": Snooze(minutes=1), "b": Cancel("no"), "c": Stale("no")}

    async def body(_ctx, url):
        raise asked[url]

    script.fetch = body
    snoozed, cancelled = ask(app, fetch, "a"), ask(app, fetch_plain, "b")
    stale = ask(app, fetch, "c")

    assert app.drain().counts == {"snooze": 1, "cancel": 2}
    assert job(app, snoozed).state is JobState.SCHEDULED
    assert job(app, cancelled).outcome is JobOutcome.CANCELLED
    assert job(app, stale).outcome is JobOutcome.STALE


def test_an_async_task_saves_notes_before_and_after_it_writes(app):
    shown = []

    async def body(ctx, _url):
        ctx.checkpoint["step"] = 1
        ctx.session.add(Line(text="written"))
        await ctx.session.flush()
        ctx.checkpoint["step"] = 2
        ctx.progress(1, 1)
        shown.append(job(app, ctx.job.id).progress)
        raise Snooze(minutes=1)

    script.fetch = body
    job_id = ask(app, fetch, "a")

    app.drain()

    on_sqlite = app.store.dialect == "sqlite"
    assert shown == [None if on_sqlite else '{"done":1,"total":1}']
    assert (job(app, job_id).checkpoint, lines(app)) == ('{"step":2}', [])


def test_every_edge_that_a_job_took_is_an_edge_of_its_machine(app, clock):
    script.errand = write_and_raise(ValueError())
    ask(app)
    ended = []
    for _ in range(3):
        ended += app.drain().ended
        clock.advance(BACKOFF)

    assert [JOB_MACHINE.edge(one.outcome).target for one in ended] == [
        "failed",
        "failed",
        "discarded",
    ]


def test_the_backoff_is_asked_with_the_number_of_the_attempt(app, clock, monkeypatch):
    asked = []
    wait = type(
        "Wait", (), {"delay": lambda _self, n, _e, _r: asked.append(n) or BACKOFF}
    )()
    written = replace(errand.spec.written, backoff=wait)
    monkeypatch.setattr(errand, "spec", replace(errand.spec, written=written))
    script.errand = write_and_raise(ValueError())
    ask(app)

    discard(app, clock)

    assert asked == [1, 2]

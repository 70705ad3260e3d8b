"""One job for many requests: kept, replaced, refused or run again, while its key is held."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from statejobs import (
    DuplicateJobError,
    Enqueued,
    JobState,
    StateJobsError,
    Unique,
    WrongValueError,
    acting_as,
    task,
    tenant,
)
from statejobs.store.engines.asyncio import open_async_engine
from tests.resource.support import statements_on
from tests.support.clock import NOON
from tests.support.digests import (
    BY_CUSTOMER,
    HOUR,
    ask,
    digests,
    set_job,
    stored,
    unique_app,
)

S = JobState
INSERTED, DUPLICATE = Enqueued.INSERTED, Enqueued.DUPLICATE


def outcome_of(result):
    return result.outcome, result.job_id


# What requests share -----------------------------------------------------------------------------


def test_a_second_request_keeps_the_job_of_the_first(database_url):
    with digests(database_url) as (app, send):
        first = ask(app, send, 7, [1])
        second = ask(app, send, 7, [2])
        other = ask(app, send, 8, [1])

        assert first.outcome is other.outcome is INSERTED
        assert outcome_of(second) == (DUPLICATE, first.job_id)
        assert [job.args for job in stored(app)] == [
            '{"customer":7,"items":[1]}',
            '{"customer":8,"items":[1]}',
        ]


def test_all_arguments_and_the_tenant_by_default(database_url):
    with digests(database_url, Unique()) as (app, send):
        first = ask(app, send, 7, [])
        same = ask(app, send, customer=7)  # its default is []
        with tenant("acme"):
            theirs = ask(app, send, 7)
        other = ask(app, send, 7, [1])

        assert outcome_of(same) == (DUPLICATE, first.job_id)
        assert (theirs.outcome, other.outcome) == (INSERTED, INSERTED)
        assert [job.dedupe_key for job in stored(app)] == [
            'digest.send:{"customer":7,"items":[]}',
            'digest.send:{"customer":7,"items":[],"@tenant":"acme"}',
            'digest.send:{"customer":7,"items":[1]}',
        ]


def test_marks_are_shared_beside_arguments(database_url):
    by = ["customer", Unique.ACTOR, "queue"]
    with digests(database_url, Unique(by=by)) as (app, send):
        with acting_as("ann"):
            ask(app, send, 7)
            again = ask(app, send, 7)
        with acting_as("bob"):
            other = ask(app, send, 7)

        assert (again.outcome, other.outcome) == (DUPLICATE, INSERTED)
        assert stored(app)[0].dedupe_key == (
            'digest.send:{"customer":7,"@actor":"ann","@queue":"default"}'
        )


def test_no_argument_at_all_is_one_job_for_the_task(database_url):
    with digests(database_url, Unique(by=())) as (app, send):
        ask(app, send, 7)

        assert ask(app, send, 8).outcome is DUPLICATE
        assert stored(app)[0].dedupe_key == "digest.send:{}"


def test_an_argument_called_as_a_mark_is_the_argument(database_url):
    @task("rent.due", unique=Unique(by=["tenant"]))
    def rent(tenant: str, month: int) -> None: ...

    @task("rent.told", unique=Unique(by=[Unique.TENANT]))
    def told(tenant: str, month: int) -> None: ...

    with unique_app(database_url, tasks=[rent, told]) as app, tenant("acme"):
        ask(app, rent, "x", 1)
        ask(app, told, "x", 1)

        assert [job.dedupe_key for job in stored(app)] == [
            'rent.due:{"tenant":"x"}',
            'rent.told:{"@tenant":"acme"}',
        ]


def test_values_that_are_equal_share_a_key_however_they_are_ordered(database_url):
    @task("tag.apply", unique=Unique())
    def apply(tags: set[str], where: dict[str, int]) -> None: ...

    with unique_app(database_url, tasks=[apply]) as app:
        ask(app, apply, {"a", "b", "c"}, {"x": 1, "y": 2})

        again = ask(app, apply, {"c", "b", "a"}, {"y": 2, "x": 1})

        assert again.outcome is DUPLICATE


def test_a_long_key_is_a_digest(database_url):
    with digests(database_url, Unique()) as (app, send):
        ask(app, send, 7, list(range(500)))
        again = ask(app, send, 7, list(range(500)))
        other = ask(app, send, 7, list(range(501)))

        assert (again.outcome, other.outcome) == (DUPLICATE, INSERTED)
        assert {len(job.dedupe_key) for job in stored(app)} == {
            len("digest.send:") + 64
        }


def test_a_job_under_a_former_key_is_found(database_url):
    with digests(database_url) as (app, send):
        first = ask(app, send, 7)

    @task("digest.mail", aliases=["digest.send"], unique=Unique(**BY_CUSTOMER))
    def renamed(customer: int, items: list[int]) -> None: ...

    with unique_app(database_url, tasks=[renamed]) as app:
        assert outcome_of(ask(app, renamed, 7, [])) == (DUPLICATE, first.job_id)


# How long ----------------------------------------------------------------------------------------


def test_without_a_period_the_key_is_held_while_the_job_lives(database_url):
    with digests(database_url, max_attempts=2) as (app, send):
        first = ask(app, send, 7)
        for state in (S.SCHEDULED, S.QUEUED, S.FAILED, S.PROCESSING):
            set_job(app, first.job_id, state=state.value)
            assert outcome_of(ask(app, send, 7)) == (DUPLICATE, first.job_id)

        set_job(app, first.job_id, state="completed")

        assert ask(app, send, 7).outcome is INSERTED


@pytest.mark.parametrize("state", [S.CANCELLED, S.DISCARDED])
@pytest.mark.parametrize("period", [None, HOUR])
def test_what_gave_up_holds_no_key(database_url, state, period):
    with digests(database_url, Unique(**BY_CUSTOMER, period=period)) as (app, send):
        first = ask(app, send, 7)
        set_job(app, first.job_id, state=state.value)

        second = ask(app, send, 7)

        old, new = stored(app)
        assert outcome_of(second) == (INSERTED, new.id)
        assert (old.id, old.state, old.dedupe_key) == (first.job_id, state, None)


def test_a_period_is_exact_and_begins_with_the_request(database_url):
    with digests(database_url, Unique(**BY_CUSTOMER, period=HOUR)) as (app, send):
        first = ask(app, send, 7, options={"delay": timedelta(minutes=10)})
        app.sources.clock.advance(minutes=20)
        assert app.drain().counts == {"complete": 1}

        app.sources.clock.advance(minutes=40, microseconds=-1)
        inside = ask(app, send, 7)
        app.sources.clock.advance(microseconds=1)
        after = ask(app, send, 7)

        assert outcome_of(inside) == (DUPLICATE, first.job_id)
        assert after.outcome is INSERTED
        assert [job.unique_until for job in stored(app)] == [
            None,
            NOON + 2 * HOUR,
        ]


def test_a_live_job_holds_its_key_beyond_the_period(database_url):
    with digests(database_url, Unique(**BY_CUSTOMER, period=HOUR)) as (app, send):
        ask(app, send, 7)
        app.sources.clock.advance(hours=2)

        assert ask(app, send, 7).outcome is DUPLICATE


def test_a_period_that_the_code_dropped_holds_nothing(database_url):
    with digests(database_url, Unique(**BY_CUSTOMER, period=HOUR)) as (app, send):
        ask(app, send, 7)
        app.drain()
    with digests(database_url) as (app, send):
        assert ask(app, send, 7).outcome is INSERTED


def test_waiting_frees_the_key_when_the_job_is_claimed(database_url):
    unique = Unique(**BY_CUSTOMER, while_="waiting")
    with digests(database_url, unique, max_attempts=2) as (app, send):
        ask(app, send, 7)
        asked = []
        send.script.run = lambda customer: asked.append(ask(app, send, customer))
        app.step()
        send.script.run = lambda _customer: None

        assert [result.outcome for result in asked] == [INSERTED]
        assert ask(app, send, 7).outcome is DUPLICATE
        assert [job.state for job in stored(app)] == [S.COMPLETED, S.QUEUED]


def test_a_retry_waits_beside_the_job_that_was_made_meanwhile(database_url):
    unique = Unique(**BY_CUSTOMER, while_="waiting")
    with digests(database_url, unique, max_attempts=2) as (app, send):
        ask(app, send, 7)

        def fail(customer):
            ask(app, send, customer)
            raise ValueError("no luck")

        send.script.run = fail
        app.step()
        send.script.run = lambda _customer: None

        assert [job.state for job in stored(app)] == [S.FAILED, S.QUEUED]
        app.sources.clock.advance(hours=1)
        assert app.drain().counts == {"complete": 2}


# Replace -----------------------------------------------------------------------------------------


def test_replace_overwrites_what_it_names(database_url):
    unique = Unique(
        **BY_CUSTOMER,
        period=2 * HOUR,
        on_conflict="replace",
        replace=["args", "run_at", "priority", "actor"],
    )
    with digests(database_url, unique, tags=["a"]) as (app, send):
        first = ask(app, send, 7, [1], options={"delay": HOUR, "priority": 3})
        [before] = stored(app)
        app.sources.clock.advance(minutes=1)
        with acting_as("ann"):
            second = ask(app, send, 7, [2], options={"priority": 1})

        [job] = stored(app)
        assert outcome_of(second) == (Enqueued.REPLACED, first.job_id)
        assert (job.args, job.priority, job.actor) == (
            '{"customer":7,"items":[2]}',
            1,
            "ann",
        )
        assert (job.state, job.run_at) == (S.QUEUED, NOON + timedelta(minutes=1))
        assert (job.enqueued_at, job.unique_until) == (NOON, NOON + 2 * HOUR)
        assert job.idempotency_key != before.idempotency_key  # other work


def test_tags_and_what_programs_note_are_replaced(database_url):
    unique = Unique(**BY_CUSTOMER, on_conflict="replace", replace=["tags", "meta"])
    with digests(database_url, unique, tags=["old"]) as (app, send):
        ask(app, send, 7, options={"meta": {"page": 1}})

        ask(app, send, 7, options={"tags": ["new"], "meta": {"page": 2}})

        [job] = stored(app)
        assert (job.tags, job.meta) == ('["new"]', {"page": 2})


def test_replace_keeps_what_it_does_not_name(database_url):
    unique = Unique(**BY_CUSTOMER, on_conflict="replace", replace=["run_at"])
    with digests(database_url, unique) as (app, send):
        ask(app, send, 7, [1], options={"priority": 3})
        [before] = stored(app)

        ask(app, send, 7, [2], options={"delay": HOUR, "priority": 1})

        [job] = stored(app)
        assert (job.args, job.priority) == (before.args, 3)
        assert (job.state, job.run_at) == (S.SCHEDULED, NOON + HOUR)
        assert job.idempotency_key == before.idempotency_key


def test_replace_goes_by_the_state_of_the_job_that_waits(database_url):
    unique = Unique(
        **BY_CUSTOMER,
        on_conflict="replace",
        replace={S.SCHEDULED: ["args"], S.FAILED: ["args", "run_at"]},
    )
    with digests(database_url, unique) as (app, send):
        first = ask(app, send, 7, [1], options={"delay": HOUR})
        replaced = ask(app, send, 7, [2])
        [scheduled] = stored(app)
        assert replaced.outcome is Enqueued.REPLACED
        assert (scheduled.args, scheduled.state, scheduled.run_at) == (
            '{"customer":7,"items":[2]}',
            S.SCHEDULED,
            NOON + HOUR,
        )

        set_job(app, first.job_id, state="queued")
        assert outcome_of(ask(app, send, 7, [3])) == (DUPLICATE, first.job_id)
        set_job(app, first.job_id, state="failed", attempt=1)
        assert ask(app, send, 7, [4]).outcome is Enqueued.REPLACED

        [failed] = stored(app)
        assert (failed.args, failed.state, failed.run_at, failed.attempt) == (
            '{"customer":7,"items":[4]}',
            S.QUEUED,
            NOON,
            1,
        )


@pytest.mark.parametrize("state", [S.PROCESSING, S.COMPLETED])
def test_nothing_is_replaced_in_a_job_that_has_begun(database_url, state):
    unique = Unique(
        **BY_CUSTOMER, period=HOUR, on_conflict="replace", replace=["args", "run_at"]
    )
    with digests(database_url, unique) as (app, send):
        first = ask(app, send, 7, [1])
        set_job(app, first.job_id, state=state.value)

        assert outcome_of(ask(app, send, 7, [2])) == (DUPLICATE, first.job_id)
        assert stored(app)[0].args == '{"customer":7,"items":[1]}'


@pytest.mark.postgres
def test_a_call_asks_once_for_a_key_whose_job_ends_meanwhile(postgres_url):
    """Asked again, the key would be free, and locked after what comes behind it."""
    with digests(postgres_url) as (app, send):
        first = ask(app, send, 7)
        with app.session() as session:

            @event.listens_for(app.engine, "after_cursor_execute")
            def complete(_connection, _cursor, statement, *_rest):
                if statement.startswith("INSERT") and not ended:
                    ended.append(first.job_id)
                    set_job(app, first.job_id, state="completed")

            ended = []
            calls = [{"customer": n} for n in (7, 8, 7)]
            one, other, again = send.enqueue_many(session, calls)
            session.commit()

        assert ended == [first.job_id]
        assert outcome_of(one) == outcome_of(again) == (DUPLICATE, first.job_id)
        assert other.outcome is INSERTED


# Raise -------------------------------------------------------------------------------------------


def test_raise_names_the_job_and_leaves_the_transaction_intact(database_url):
    unique = Unique(**BY_CUSTOMER, on_conflict="raise")
    with digests(database_url, unique) as (app, send):
        first = ask(app, send, 7)
        with app.session() as session:
            send.enqueue(session, 8)
            with pytest.raises(DuplicateJobError) as raised:
                send.enqueue(session, 7)
            send.enqueue(session, 9)
            session.commit()

        assert (raised.value.job_id, raised.value.state) == (first.job_id, S.QUEUED)
        assert str(raised.value) == (
            f"digest.send: job {first.job_id}, which is queued, has the key of this request "
            "already: its Unique(on_conflict='raise') allows one; go on without a job, or say "
            "on_conflict='skip'"
        )
        assert len(stored(app)) == 3


def test_nothing_is_left_of_many_of_which_one_is_a_duplicate(database_url):
    unique = Unique(**BY_CUSTOMER, on_conflict="raise")
    with digests(database_url, unique) as (app, send):
        first = ask(app, send, 7)
        with app.session() as session:
            with pytest.raises(DuplicateJobError):
                send.enqueue_many(session, [{"customer": n} for n in (6, 7, 8)])
            session.commit()

        assert [job.id for job in stored(app)] == [first.job_id]


def test_calls_that_share_a_key_are_refused_where_it_raises(database_url):
    unique = Unique(**BY_CUSTOMER, on_conflict="raise")
    with digests(database_url, unique) as (app, send), app.session() as session:
        calls = [{"customer": n} for n in (7, 8, 7)]

        with pytest.raises(WrongValueError, match="calls 1 and 3 share a key"):
            send.enqueue_many(session, calls)


# Run again ---------------------------------------------------------------------------------------


def test_a_job_that_runs_is_queued_once_more_when_it_ends(database_url):
    unique = Unique(**BY_CUSTOMER, on_conflict="run_again")
    with digests(database_url, unique) as (app, send):
        first = ask(app, send, 7, [1])
        asked, ran = [], []

        def run(customer):
            ran.append(customer)
            if not asked:
                asked.append(ask(app, send, customer, [2]))

        send.script.run = run

        assert app.drain().counts == {"complete": 2}
        assert outcome_of(asked[0]) == (Enqueued.RUN_AGAIN, first.job_id)
        [job] = stored(app)
        assert (ran, job.state, job.args) == (
            [7, 7],
            S.COMPLETED,
            '{"customer":7,"items":[2]}',
        )


def test_a_job_that_waits_serves_both(database_url):
    unique = Unique(**BY_CUSTOMER, on_conflict="run_again")
    with digests(database_url, unique) as (app, send):
        first = ask(app, send, 7, [1])

        second = ask(app, send, 7, [2])

        assert outcome_of(second) == (Enqueued.COALESCED, first.job_id)
        assert app.drain().counts == {"complete": 1}
        assert stored(app)[0].args == '{"customer":7,"items":[2]}'


def test_what_completed_in_its_period_is_not_run_again(database_url):
    unique = Unique(**BY_CUSTOMER, on_conflict="run_again", period=HOUR)
    with digests(database_url, unique) as (app, send):
        first = ask(app, send, 7)
        app.drain()

        assert outcome_of(ask(app, send, 7)) == (DUPLICATE, first.job_id)


# Many --------------------------------------------------------------------------------------------


def test_many_are_told_each_what_became_of_it(database_url):
    with digests(database_url) as (app, send), app.session() as session:
        first = send.enqueue(session, 7)

        found = send.enqueue_many(session, [{"customer": n} for n in (9, 7, 8, 9)])
        session.commit()

        assert [result.outcome for result in found] == [
            INSERTED,
            DUPLICATE,
            INSERTED,
            DUPLICATE,
        ]
        assert found[1].job_id == first.job_id
        assert found[3].job_id == found[0].job_id


def test_calls_that_share_a_key_are_asked_one_after_the_other(database_url):
    unique = Unique(**BY_CUSTOMER, on_conflict="replace", replace=["args"])
    with digests(database_url, unique) as (app, send), app.session() as session:
        calls = [{"customer": 7, "items": [n]} for n in range(3)]
        found = send.enqueue_many(session, calls)
        session.commit()

        assert [result.outcome for result in found] == [
            INSERTED,
            Enqueued.REPLACED,
            Enqueued.REPLACED,
        ]
        assert stored(app)[0].args == '{"customer":7,"items":[2]}'


def test_thousands_are_few_statements(database_url):
    with digests(database_url) as (app, send):
        calls = [{"customer": n} for n in range(2500)]
        with app.session() as session, statements_on(app.engine) as count:
            found = send.enqueue_many(session, calls)
            session.commit()

        assert {result.outcome for result in found} == {INSERTED}
        assert count("statejobs_jobs") <= 4
        assert len({result.job_id for result in found}) == 2500


def test_an_async_session_is_told_the_same(database_url):
    async def ask_twice(app, send):
        engine = open_async_engine(app.engine)
        try:
            async with AsyncSession(engine) as session:
                found = [await send.enqueue_async(session, 7) for _ in range(2)]
                await session.commit()
                return found
        finally:
            await engine.dispose()

    with digests(database_url) as (app, send):
        found = asyncio.run(ask_twice(app, send))

        assert [result.outcome for result in found] == [INSERTED, DUPLICATE]


# What it costs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("is_held", "state", "most"),
    [
        pytest.param(False, None, 2, id="a new key: one statement more"),
        pytest.param(True, S.QUEUED, 1, id="a duplicate: no INSERT"),
        pytest.param(True, S.COMPLETED, 3, id="the first after a period"),
    ],
)
def test_it_costs_few_statements(database_url, is_held, state, most):
    with digests(database_url, Unique(**BY_CUSTOMER, period=HOUR)) as (app, send):
        if is_held:
            first = ask(app, send, 7)
            set_job(app, first.job_id, state=state.value)
            app.sources.clock.advance(hours=1 if state is S.COMPLETED else 0)
        with app.session() as session, statements_on(app.engine) as count:
            send.enqueue(session, 7)
            session.commit()

        assert count("statejobs_jobs") == most


# By hand -----------------------------------------------------------------------------------------


def test_a_job_whose_key_another_has_cannot_be_retried(database_url):
    with digests(database_url) as (app, send):
        first = ask(app, send, 7)
        app.drain()
        second = ask(app, send, 7).job_id

        with pytest.raises(StateJobsError) as refused:
            app.retry_job(first.job_id)

        assert str(refused.value) == (
            f"job {first.job_id} cannot go on: a newer job has its key, "
            'digest.send:{"customer":7}, which is Unique; '
            f"see: statejobs job show {second}"
        )
        assert app.why_no_retry(first.job_id) == (
            'a newer job has its key, digest.send:{"customer":7}, which is Unique; '
            f"see: statejobs job show {second}"
        )


def gave_up(app, send, *args, **kwargs):
    """Make a job that was cancelled; return its id."""
    made = ask(app, send, *args, **kwargs)
    app.cancel_job(made.job_id, reason="enough")
    return made.job_id


def test_a_job_that_gave_up_is_not_retried_beside_the_one_that_took_its_key(
    database_url,
):
    with digests(database_url) as (app, send):
        first = gave_up(app, send, 7)
        second = ask(app, send, 7).job_id

        with pytest.raises(StateJobsError) as refused:
            app.retry_job(first)

        why = (
            'a newer job has its key, digest.send:{"customer":7}, which is Unique; '
            f"see: statejobs job show {second}"
        )
        assert str(refused.value) == f"job {first} cannot go on: {why}"
        assert app.why_no_retry(first) == why
        assert app.drain().counts == {"complete": 1}


@pytest.mark.parametrize("ending", ["completed", "cancelled"])
def test_a_job_that_gave_up_goes_on_with_its_key_once_the_other_has_ended(
    database_url, ending
):
    with digests(database_url) as (app, send):
        first = gave_up(app, send, 7)
        if ending == "cancelled":
            gave_up(app, send, 7)
        else:
            ask(app, send, 7)
            app.drain()

        assert app.why_no_retry(first) is None
        assert app.retry_job(first) is S.QUEUED

        assert ask(app, send, 7).job_id == first  # it has the key
        assert app.drain().counts == {"complete": 1}


def test_the_period_of_another_job_keeps_one_that_gave_up(database_url):
    with digests(database_url, Unique(**BY_CUSTOMER, period=HOUR)) as (app, send):
        first = gave_up(app, send, 7)
        ask(app, send, 7)
        app.drain()

        with pytest.raises(StateJobsError, match="a newer job has its key"):
            app.retry_job(first)
        app.sources.clock.advance(hours=1)

        assert app.retry_job(first) is S.QUEUED


def test_of_many_that_lost_one_key_one_goes_on(database_url):
    with digests(database_url) as (app, send):
        several = [gave_up(app, send, 7) for _ in range(3)]
        other = gave_up(app, send, 8)

        handled = app.select(state="cancelled").retry()

        assert handled.done == 2
        assert {one.why for one in handled.refused} == {
            "a newer job has its key, which is Unique"
        }
        assert {job.id for job in stored(app) if job.state is S.QUEUED} == {
            several[-1],  # which had it still
            other,
        }


def test_a_job_that_runs_without_its_key_keeps_none_that_gave_up(database_url):
    with digests(database_url, Unique(**BY_CUSTOMER, while_="waiting")) as (app, send):
        first = gave_up(app, send, 7)
        second = ask(app, send, 7).job_id
        set_job(app, second, state="processing", owner="a", token="b")

        assert app.retry_job(first) is S.QUEUED
        set_job(app, second, state="completed", outcome="completed")

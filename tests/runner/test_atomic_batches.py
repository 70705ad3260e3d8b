"""Atomic actions that share a transaction: each still ends as if it were alone."""

from collections import deque
from datetime import timedelta

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from statejobs import Cancel, JobState, Snooze, Stale, WorkerSettings
from statejobs.runner.calls import calls_of, pop_call
from statejobs.runner.lane import Lane
from statejobs.store.staging import stage_due
from statejobs.store.tables import jobs
from statejobs.values.clock import Sources
from tests.support.clock import ManualClock
from tests.support.parcels import (
    LEASE,
    Item,
    Letter,
    Parcel,
    add,
    attempts_of,
    contradictions,
    enqueue,
    fire,
    job_of,
    load,
    post_office,
    run_together,
    script,
    state_of,
)
from tests.support.processes import eventually

SEALED = [("create", "open"), ("press.start", "sealing"), ("press.complete", "sealed")]


def ask(app, number):
    """Commit letters with a job of the atomic action each; return their keys."""
    return enqueue(app, Letter, "press", number)


def run_claimed(app, claims):
    """Run *claims* as one batch."""
    call = pop_call(deque(calls_of(claims)), most=100)
    assert len(call) == len(claims)
    return run_together(app.runner(), call)


def outcomes(ended):
    return [one.outcome for one in ended]


def states(app, keys):
    return [state_of(app, Letter, key) for key in keys]


def grams(app, keys):
    return [load(app, Letter, key).grams for key in keys]


def names(app):
    with app.session() as session:
        return sorted(session.scalars(select(Item.name)))


def add_shelf(app):
    key = add(app, Parcel())
    app.drain()
    return key


@pytest.fixture
def shelf(app):
    """Key of a parcel that items can refer to; it is sent already."""
    return add_shelf(app)


def weighs(letter, _ctx):
    letter.grams = 10 * letter.id


# Together ----------------------------------------------------------------------------------------


def test_a_batch_is_one_transaction_with_a_fixed_number_of_statements(app):
    script.seal = weighs
    sent, commits = [], []
    event.listen(
        app.engine, "before_cursor_execute", lambda _c, _u, text, *_r: sent.append(text)
    )
    event.listen(app.engine, "commit", lambda _connection: commits.append(1))
    counts = []
    for number in (3, 30):
        ask(app, number)
        del sent[:], commits[:]
        app.step(number)
        counts.append((len(sent), len(commits)))

    assert counts[0] == counts[1]
    assert not any("SAVEPOINT" in one for one in sent[: len(sent) // 2])


def test_each_record_gets_its_own_values_and_its_own_history(app):
    script.seal = weighs
    keys = ask(app, 5)

    ended = app.step(5)

    assert [(one.outcome, one.state) for one in ended] == [
        ("complete", JobState.COMPLETED)
    ] * 5
    assert grams(app, keys) == [10 * key for key in keys]
    for key in keys:
        rows = app.queries.transitions("Letter", str(key))
        assert [(row["name"], row["target"]) for row in rows] == SEALED
        assert rows[-1]["job_id"] == job_of(app, Letter, key).id


def test_each_has_its_own_duration(app, clock):
    script.seal = lambda letter, _ctx: clock.advance(seconds=letter.id)
    keys = ask(app, 3)
    app.step(3)

    durations = [
        app.queries.transitions("Letter", str(key))[-1]["duration"] for key in keys
    ]
    assert durations == [float(key) for key in keys]


def test_what_they_write_is_there_with_all_of_them(app, shelf):
    def writes(letter, ctx):
        weighs(letter, ctx)
        ctx.session.add(Item(name=f"letter {letter.id}", parcel_id=shelf))

    script.seal = writes
    keys = ask(app, 4)

    assert outcomes(app.step(4)) == ["complete"] * 4
    assert names(app) == sorted(f"letter {key}" for key in keys)
    assert grams(app, keys) == [10 * key for key in keys]


def test_one_sees_what_those_before_it_wrote(app, shelf):
    counts = []

    def counts_and_writes(_letter, ctx):
        counts.append(len(ctx.session.scalars(select(Item)).all()))
        ctx.session.add(Item(name="x", parcel_id=shelf))

    script.seal = counts_and_writes
    ask(app, 3)
    app.step(3)

    assert counts == [0, 1, 2]


def test_jobs_that_they_enqueue_run(app):
    script.seal = lambda _letter, ctx: ctx.session.add(Parcel())
    ask(app, 2)
    app.step(2)

    assert app.drain().counts == {"complete": 2}
    with app.session() as session:  # a batch that a fault undid used up keys
        sent = session.scalars(select(Parcel.state)).all()
    assert [state.value for state in sent] == ["sent", "sent"]


# Alone -------------------------------------------------------------------------------------------


def in_the_third(keys, does):
    """A body that weighs, writes an item, and for the third letter does more."""

    def body(letter, ctx):
        weighs(letter, ctx)
        ctx.session.add(Item(name=f"letter {letter.id}", parcel_id=1))
        ctx.session.flush()
        if letter.id == keys[2]:
            does(letter, ctx)

    return body


def raises(error):
    def body(_letter, _ctx):
        raise error

    return body


def breaks_a_constraint(_letter, ctx):
    ctx.session.add(Item(name=None, parcel_id=1))  # the flush after the body finds out


def swallows_an_error(_letter, ctx):
    with pytest.raises(SQLAlchemyError):
        ctx.session.execute(text("SELECT nothing FROM nowhere"))


@pytest.mark.parametrize(
    ("does", "outcome", "state"),
    [
        (raises(ValueError("no")), "fail", "open"),
        (raises(SystemExit(1)), "fail", "open"),
        (raises(Snooze(minutes=1)), "snooze", "open"),
        (raises(Cancel("no")), "cancel", "torn"),
        (raises(Stale("no more")), "cancel", "open"),
        (breaks_a_constraint, "fail", "open"),
    ],
    ids=["error", "exit", "snooze", "cancel", "stale", "constraint"],
)
def test_what_one_wrote_before_it_stopped_is_rolled_back(
    app, shelf, does, outcome, state
):
    assert shelf == 1
    keys = ask(app, 5)
    script.seal = in_the_third(keys, does)

    ended = app.step(5)

    assert outcomes(ended) == ["complete", "complete", outcome, "complete", "complete"]
    others = [key for key in keys if key != keys[2]]
    assert names(app) == sorted(f"letter {key}" for key in others)
    assert states(app, keys) == ["sealed", "sealed", state, "sealed", "sealed"]
    assert load(app, Letter, keys[2]).grams == 0


def test_a_failure_is_recorded_with_its_error(app):
    keys = ask(app, 3)
    script.seal = lambda letter, _ctx: letter.id == keys[1] and 1 / 0
    app.step(3)

    assert [attempts_of(app, Letter, key) for key in keys] == [
        [],
        [(1, "failed", "ZeroDivisionError")],
        [],
    ]


@pytest.mark.postgres
def test_an_error_that_a_body_hides_fails_it_alone(postgres_url, clock):
    with post_office(postgres_url, clock=clock) as app:
        add_shelf(app)
        keys = ask(app, 5)
        script.seal = in_the_third(keys, swallows_an_error)

        ended = app.step(5)

        assert outcomes(ended) == [
            "complete",
            "complete",
            "fail",
            "complete",
            "complete",
        ]
        assert contradictions(app) == []


def test_a_record_that_was_moved_meanwhile_is_left_to_them(app):
    script.seal = weighs
    keys = ask(app, 3)
    claims = app.runner().claim("default", limit=3)
    fire(app, Letter, keys[1], "tear")

    assert outcomes(run_claimed(app, claims)) == ["complete", "cancel", "complete"]
    assert states(app, keys) == ["sealed", "torn", "sealed"]
    assert load(app, Letter, keys[1]).grams == 0


def test_a_job_that_is_no_longer_ours_makes_each_run_by_itself(app, clock):
    ran = []
    script.seal = lambda letter, _ctx: ran.append(letter.id)
    keys = ask(app, 3)
    claims = app.runner().claim("default", limit=3)
    with app.engine.begin() as connection:
        lost = update(jobs).where(jobs.c.id == claims[1].job.id)
        connection.execute(lost.values(token="other"))

    assert outcomes(run_claimed(app, claims)) == ["complete", "late", "complete"]
    assert states(app, keys) == ["sealed", "sealing", "sealed"]
    assert ran == [*keys, *keys]
    clock.advance(LEASE + timedelta(seconds=1))
    app.runner().rescue()


def test_what_failed_before_is_run_alone(app, clock):
    keys = ask(app, 1)
    script.seal = raises(ValueError("no"))
    app.step(1)
    keys += ask(app, 3)
    clock.advance(minutes=1)
    stage_due(app.store, ["default"], app.runner().work.keys(), clock.now())
    claims = app.runner().claim("default", limit=4)
    waiting = deque(calls_of(sorted(claims, key=lambda claim: claim.job.record_id)))

    sizes = []
    while waiting:
        sizes.append(len(pop_call(waiting, most=100)))

    assert sizes == [1, 3]
    for claim in claims:
        app.runner().finisher.release(claim)


def test_each_may_have_a_commit_of_its_own(database_url):
    settings = WorkerSettings(finish_batch=1)
    with post_office(database_url, clock=ManualClock(), settings=settings) as app:
        keys, commits = ask(app, 3), []
        event.listen(app.engine, "commit", lambda _connection: commits.append(1))

        assert outcomes(app.step(3)) == ["complete"] * 3

        assert len(commits) >= len(keys)
        assert contradictions(app) == []


# Workers -----------------------------------------------------------------------------------------


def test_only_what_waits_ahead_of_short_jobs_shares_a_transaction(app):
    ask(app, 40)
    runner = app.runner()
    claims = runner.claim("default", limit=40)
    lane = Lane(
        "default",
        2,
        most_ahead=100,
        most_together=100,
        start_server=lambda *_: None,
        on_low=lambda: None,
    )
    lane.put(calls_of(claims))

    def sizes(number):
        return [len(lane.take(is_async=False)) for _ in range(number)]

    lane.room(0.0)
    assert sizes(10) == [1] * 10  # nobody knows yet how long they take
    lane.room(0.025)  # ten in 25 ms: twenty in 50 ms, of which half is for other slots
    assert sizes(2) == [11, 11]
    lane.room(0.3)  # nothing was taken for long, as between two bursts
    lane.room(0.6)
    assert sizes(1) == [3]
    for claim in claims:
        runner.finisher.release(claim)


def test_long_jobs_that_end_at_the_same_moment_are_not_claimed_ahead(app):
    ask(app, 6)
    runner = app.runner()
    claims = runner.claim("default", limit=6)
    lane = Lane(
        "default",
        3,
        most_ahead=100,
        most_together=100,
        start_server=lambda *_: None,
        on_low=lambda: None,
    )
    lane.put(calls_of(claims))
    lane.room(0.0)
    running = [lane.take(is_async=False) for _ in range(3)]
    for call in running:
        call[0].duration = 5.0

    lane.room(5.0)
    for call in running:
        assert len(lane.take(is_async=False, after=call)) == 1

    assert lane.room(5.01) == 0
    for claim in claims:
        runner.finisher.release(claim)


def test_a_worker_ends_each_of_many_once(database_url):
    settings = WorkerSettings(poll=timedelta(seconds=0.1))
    queues = {"default": 2}
    with post_office(
        database_url, settings=settings, sources=Sources(), queues=queues
    ) as app:
        shelf, snoozed = add_shelf(app), set()

        def writes(letter, ctx):
            weighs(letter, ctx)
            if letter.id % 2:
                ctx.session.add(Item(name=f"{letter.id:03}", parcel_id=shelf))
            if letter.id % 7 == 0 and letter.id not in snoozed:
                snoozed.add(letter.id)
                raise Snooze(seconds=0.01)

        script.seal = writes
        keys = ask(app, 100)
        with app.running():
            eventually(
                lambda: (
                    app.queries.counts()["default"].get("completed") == 1 + len(keys)
                )
            )

        assert grams(app, keys) == [10 * key for key in keys]
        assert names(app) == [f"{key:03}" for key in keys if key % 2]
        assert contradictions(app) == []

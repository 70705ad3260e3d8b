"""Claim, run, finish: what each way of ending does to record, job and history."""

import logging
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, event, text, update

from statejobs import Cancel, JobState, Snooze, StateJobs, StateJobsError
from statejobs.store.tables import jobs, transitions
from statejobs.values.backoff import Custom
from statejobs.values.lifecycle import JOB_MACHINE
from statejobs.work.dispatch import WorkByKey
from tests.support.parcels import (
    BACKOFF,
    Letter,
    Parcel,
    attempts_of,
    enqueue,
    fire,
    job_of,
    load,
    script,
    send,
    state_of,
    steps,
)

SENT = [
    ("create", None, "packed"),
    ("start", "packed", "sending"),
    ("complete", "sending", "sent"),
]


def fail(*_args):
    raise ValueError("out of stamps")


def fail_until_discarded(app, clock):
    script.send = fail
    for _ in range(3):
        app.drain()
        clock.advance(BACKOFF)


# Complete ----------------------------------------------------------------------------------------


def test_completes_the_job_and_moves_the_record_with_what_the_body_wrote(app):
    def stamp(parcel, ctx):
        parcel.stamps, parcel.sent_at = 7, ctx.now

    script.send = stamp
    (key,) = send(app)

    (ended,) = app.step()

    parcel = load(app, Parcel, key)
    job = job_of(app, Parcel, key)
    assert (ended.outcome, ended.state) == ("complete", JobState.COMPLETED)
    assert (parcel.state.value, parcel.stamps, parcel.sent_at) == (
        "sent",
        7,
        app.sources.clock.now(),
    )
    assert (job.state, job.attempt, job.reason) == (JobState.COMPLETED, 1, None)
    assert (job.owner, job.token, job.lease_until) == (None, None, None)
    assert steps(app, Parcel, key) == SENT
    assert attempts_of(app, Parcel, key) == []


def test_history_tells_which_job_and_attempt_moved_the_record_and_how_long_it_took(
    app, clock
):
    script.send = lambda *_: clock.advance(seconds=3)
    (key,) = send(app)

    app.drain()

    _, start, complete = app.queries.transitions("Parcel", str(key))
    job = job_of(app, Parcel, key)
    assert (start["job_id"], start["attempt"], start["version"]) == (job.id, 1, 1)
    assert (complete["job_id"], complete["attempt"], complete["version"]) == (
        job.id,
        1,
        2,
    )
    assert complete["duration"] == 3


def test_the_body_sees_its_record_in_during_and_its_job_in_processing(app):
    seen = []
    script.send = lambda parcel, ctx: seen.append(
        (parcel.state.value, ctx.job.state, ctx.attempt)
    )
    send(app)

    app.drain()

    assert seen == [("sending", JobState.PROCESSING, 1)]


# Fail --------------------------------------------------------------------------------------------


def test_a_failure_returns_the_record_and_waits_for_the_backoff(app, clock):
    script.send = fail
    (key,) = send(app)

    (ended,) = app.step()

    job = job_of(app, Parcel, key)
    assert (ended.outcome, ended.state) == ("fail", JobState.FAILED)
    assert (job.state, job.attempt, job.reason) == (
        JobState.FAILED,
        1,
        "ValueError: out of stamps",
    )
    assert job.run_at == clock.now() + BACKOFF
    assert state_of(app, Parcel, key) == "packed"
    assert steps(app, Parcel, key)[-1] == ("return.packed", "sending", "packed")
    assert attempts_of(app, Parcel, key) == [(1, "failed", "ValueError")]


def test_the_job_in_a_result_is_as_it_is_now(app, clock):
    script.send = fail
    send(app)

    (failed,) = app.drain().ended
    script.send = lambda *_: None
    clock.advance(BACKOFF)
    (completed,) = app.drain().ended

    assert (failed.job.state, failed.job.reason) == (
        failed.state,
        "ValueError: out of stamps",
    )
    assert failed.job.run_at == clock.now()
    assert (completed.job.state, completed.job.reason) == (JobState.COMPLETED, None)


def test_a_trigger_whose_queue_nobody_serves_is_warned_of(app, caplog):
    other = StateJobs(app.engine, domains=app.domains, queues={"defalt": 1})

    other.drain()
    drained = [r.message for r in caplog.records if "'parcel.send'" in r.message]
    caplog.clear()
    with other.running():
        working = [r.message for r in caplog.records if "'parcel.send'" in r.message]

    assert drained == working
    (warning,) = drained
    assert "puts its jobs into queue 'default'" in warning
    assert "did you mean 'defalt'?" in warning


def test_a_queue_that_a_worker_is_told_to_serve_is_not_warned_of(app):
    assert list(app.registry.unserved({"default"})) == []


def test_a_failed_job_is_not_run_before_its_time(app, clock):
    script.send = fail
    (key,) = send(app)
    app.drain()
    clock.advance(BACKOFF - timedelta(microseconds=1))

    early = app.drain().counts
    clock.advance(timedelta(microseconds=1))
    due = app.drain().counts

    assert (early, due) == ({}, {"fail": 1})
    assert job_of(app, Parcel, key).attempt == 2


def test_attempts_used_up_move_the_record_to_failed_and_discard_the_job(app, clock):
    (key,) = send(app)

    fail_until_discarded(app, clock)

    job = job_of(app, Parcel, key)
    assert (job.state, job.attempt) == (JobState.DISCARDED, 3)
    assert job.reason == "failed: ValueError: out of stamps"
    assert job.finished_at is not None
    assert state_of(app, Parcel, key) == "lost"
    assert steps(app, Parcel, key)[-1] == ("discard", "sending", "lost")
    assert [n for n, _, _ in attempts_of(app, Parcel, key)] == [1, 2, 3]


def test_a_person_retries_a_discarded_job_as_the_same_row_with_new_attempts(app, clock):
    (key,) = send(app)
    fail_until_discarded(app, clock)
    before = job_of(app, Parcel, key)

    fire(app, Parcel, key, "find")
    queued = job_of(app, Parcel, key)
    script.send = lambda *_: None
    app.drain()

    after = job_of(app, Parcel, key)
    assert (queued.id, queued.state, queued.max_attempts) == (
        before.id,
        JobState.QUEUED,
        6,
    )
    assert (after.id, after.state, after.attempt) == (before.id, JobState.COMPLETED, 4)


def test_the_waits_begin_anew_after_a_retry_by_a_person(app, clock, monkeypatch):
    (key,) = send(app)
    fail_until_discarded(app, clock)
    fire(app, Parcel, key, "find")
    asked = []
    set_backoff(monkeypatch, lambda step, _error: asked.append(step) or BACKOFF)

    app.drain()

    assert asked == [1]


def set_backoff(monkeypatch, wait):
    policy = WorkByKey.policy
    custom = Custom(wait)
    monkeypatch.setattr(
        WorkByKey,
        "policy",
        lambda works, key: replace(policy(works, key), backoff=custom),
    )


@pytest.mark.parametrize("broken", ["soon", None, -BACKOFF, SystemExit()], ids=repr)
def test_a_broken_backoff_does_not_lose_the_failure(app, caplog, monkeypatch, broken):
    def wait(_step, _error):
        if isinstance(broken, BaseException):
            raise broken
        return broken

    set_backoff(monkeypatch, wait)
    script.send = fail
    (key,) = send(app)

    with caplog.at_level(logging.ERROR):
        app.drain()

    assert job_of(app, Parcel, key).state is JobState.FAILED
    assert "backoff of parcel.send failed" in caplog.text


# on_discard --------------------------------------------------------------------------------------


def test_on_discard_writes_in_the_commit_of_the_discard(app, clock):
    told = []

    def tell(parcel, session, reason):
        told.append((parcel.state.value, reason))
        parcel.note = "gave up"
        session.flush()

    script.tell = tell
    (key,) = send(app)

    fail_until_discarded(app, clock)

    assert told == [("lost", "failed: ValueError: out of stamps")]
    assert load(app, Parcel, key).note == "gave up"


@pytest.mark.parametrize(
    "error", [RuntimeError("no mail"), SystemExit(3), KeyboardInterrupt()]
)
def test_a_failing_on_discard_is_recorded_and_blocks_nothing(app, clock, error, caplog):
    def tell(parcel, session, _reason):
        parcel.note = "half"
        session.flush()
        raise error

    script.tell = tell
    (key,) = send(app)

    fail_until_discarded(app, clock)

    assert job_of(app, Parcel, key).state is JobState.DISCARDED
    assert load(app, Parcel, key).note is None
    assert attempts_of(app, Parcel, key)[-1] == (3, "on_discard", type(error).__name__)
    assert "on_discard of parcel.send failed" in caplog.text


def test_an_on_discard_whose_sql_fails_leaves_the_discard_standing(app, clock):
    script.tell = lambda _parcel, session, _reason: session.execute(
        text("SELECT * FROM nowhere")
    )
    (key,) = send(app)

    fail_until_discarded(app, clock)

    assert (state_of(app, Parcel, key), job_of(app, Parcel, key).state) == (
        "lost",
        "discarded",
    )
    assert attempts_of(app, Parcel, key)[-1][1] == "on_discard"


# Snooze and Cancel -------------------------------------------------------------------------------


def test_a_snooze_runs_again_later_and_spends_no_attempt(app, clock):
    def later(parcel, _ctx):
        parcel.stamps = 9
        raise Snooze(minutes=5, reason="the post is closed")

    script.send = later
    (key,) = send(app)

    (ended,) = app.step()

    job = job_of(app, Parcel, key)
    assert (ended.outcome, job.state, job.attempt) == ("snooze", JobState.SCHEDULED, 0)
    assert job.run_at == clock.now() + timedelta(minutes=5)
    assert job.reason == "the post is closed"
    assert (state_of(app, Parcel, key), load(app, Parcel, key).stamps) == ("packed", 0)
    assert attempts_of(app, Parcel, key) == []


def test_a_job_may_snooze_more_often_than_it_has_attempts(app, clock):
    def later(_parcel, ctx):
        assert ctx.attempt == 1
        raise Snooze(minutes=1)

    script.send = later
    (key,) = send(app)

    for _ in range(20):
        assert app.drain().counts == {"snooze": 1}
        clock.advance(minutes=1)

    assert job_of(app, Parcel, key).state is JobState.SCHEDULED


def test_a_cancel_stops_the_job_and_moves_the_record_to_failed(app):
    def stop(parcel, _ctx):
        parcel.stamps = 9
        raise Cancel("the address does not exist")

    told = []
    script.send, script.tell = stop, lambda _p, _s, reason: told.append(reason)
    (key,) = send(app)

    (ended,) = app.step()

    job = job_of(app, Parcel, key)
    assert (ended.outcome, job.state) == ("cancel", JobState.CANCELLED)
    assert job.reason == "the address does not exist"
    assert (state_of(app, Parcel, key), load(app, Parcel, key).stamps) == ("lost", 0)
    assert attempts_of(app, Parcel, key) == [(1, "cancelled", None)]
    assert told == ["the address does not exist"]


# Stale -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("disturb", "reason"),
    [
        (update(Parcel.__table__).values(state="sent"), "is in 'sent'"),
        (delete(Parcel.__table__), "is gone"),
    ],
)
def test_a_job_whose_record_went_elsewhere_is_cancelled_without_an_attempt(
    app, disturb, reason
):
    script.send = lambda *_: pytest.fail("the action was called")
    (key,) = send(app)
    with app.engine.begin() as connection:
        connection.execute(text("DELETE FROM statejobs_transitions"))
        connection.execute(disturb)

    ended = app.drain().counts

    job = app.queries.job(1)
    assert ended == {}
    assert (job.state, job.attempt) == (JobState.CANCELLED, 0)
    assert reason in job.reason
    assert app.queries.attempts(job.id) == []
    assert key


def test_a_guard_that_refuses_at_the_start_cancels_the_job_as_stale(app):
    script.may_send = lambda _parcel: False
    script.send = lambda *_: pytest.fail("the action was called")
    (key,) = send(app)

    app.drain()

    job = job_of(app, Parcel, key)
    assert (job.state, job.attempt) == (JobState.CANCELLED, 0)
    assert job.reason == "stale: The post is closed."
    assert state_of(app, Parcel, key) == "packed"
    assert attempts_of(app, Parcel, key) == []


def test_a_guard_that_raises_fails_the_attempt(app):
    script.may_send = lambda _parcel: 1 / 0
    (key,) = send(app)

    app.drain()

    assert attempts_of(app, Parcel, key) == [(1, "failed", "ZeroDivisionError")]
    assert state_of(app, Parcel, key) == "packed"


def test_stale_jobs_do_not_hide_the_work_behind_them(app):
    stale, fresh = send(app, 30), send(app, 1)
    with app.engine.begin() as connection:
        connection.execute(delete(Parcel.__table__).where(Parcel.id.in_(stale)))

    counts = app.drain().counts

    assert counts == {"complete": 1}
    assert state_of(app, Parcel, fresh[0]) == "sent"


# Sources -----------------------------------------------------------------------------------------


def test_with_several_sources_the_record_returns_to_the_one_it_came_from(app, clock):
    packed, returned = send(app, 2)
    fire_raw(app, returned, "returned")
    script.send = fail

    app.drain()

    assert [state_of(app, Parcel, key) for key in (packed, returned)] == [
        "packed",
        "returned",
    ]
    assert steps(app, Parcel, returned)[-1] == (
        "return.returned",
        "sending",
        "returned",
    )
    clock.advance(BACKOFF)
    script.send = lambda *_: None
    assert app.drain().counts == {"complete": 2}


def fire_raw(app, key, state):
    """Set the state past the machine, with a row of history so that the walk holds."""
    with app.engine.begin() as connection:
        connection.execute(
            update(Parcel.__table__)
            .where(Parcel.id == key)
            .values(state=state, state_version=Parcel.state_version + 1)
        )
        connection.execute(
            transitions.insert().values(
                resource="Parcel",
                record_id=str(key),
                name="bounce",
                source="packed",
                target=state,
                version=1,
                at=app.sources.clock.now(),
            )
        )


def test_without_during_the_record_stays_in_its_source_while_the_action_runs(app):
    seen = []
    script.weigh = lambda letter, *_: seen.append(letter.state.value)
    (key,) = enqueue(app, Letter, "put_on_scale")

    app.drain()

    assert seen == ["open"]
    assert job_of(app, Letter, key).state is JobState.COMPLETED
    assert steps(app, Letter, key)[-1] == ("put_on_scale.complete", "open", "open")


def test_without_a_failed_state_the_record_stays_in_its_source(app, clock):
    script.weigh = fail
    (key,) = enqueue(app, Letter, "put_on_scale")

    for _ in range(2):
        app.drain()
        clock.advance(BACKOFF)

    assert job_of(app, Letter, key).state is JobState.DISCARDED
    assert state_of(app, Letter, key) == "open"


# Queue -------------------------------------------------------------------------------------------


def test_a_job_under_a_former_key_is_run(app):
    (key,) = send(app)
    with app.engine.begin() as connection:
        connection.execute(update(jobs).values(key="parcel.post"))

    app.drain()

    assert state_of(app, Parcel, key) == "sent"


def test_a_job_under_an_unknown_key_waits_and_spends_nothing(app):
    (unknown,) = send(app)
    with app.engine.begin() as connection:
        connection.execute(update(jobs).values(key="parcel.fly"))
    (known,) = send(app)

    counts = app.drain().counts

    assert counts == {"complete": 1}
    assert state_of(app, Parcel, known) == "sent"
    assert (
        job_of(app, Parcel, unknown).state,
        job_of(app, Parcel, unknown).attempt,
    ) == (
        "queued",
        0,
    )


def test_urgent_jobs_run_first_and_delayed_ones_when_they_are_due(app, clock):
    order = []
    script.send = lambda parcel, _ctx: order.append(parcel.id)
    (normal,) = send(app, priority=5)
    (urgent,) = send(app, priority=0)
    (later,) = send(app, priority=0, delay=timedelta(minutes=1))

    app.drain()
    assert job_of(app, Parcel, later).state is JobState.SCHEDULED
    clock.advance(minutes=1)
    app.drain()

    assert order == [urgent, normal, later]


def test_a_claim_takes_the_same_number_of_statements_for_any_number_of_jobs(app):
    counts = []
    for number in (1, 100):
        send(app, number)
        seen = []
        event.listen(
            app.engine, "before_cursor_execute", lambda *a, seen=seen: seen.append(a[2])
        )
        claims = app.runner().claim("default", limit=200)
        counts.append(len(seen))
        assert len(claims) == number
        for claim in claims:
            claim_ended = app.runner().finisher.release(claim)
            assert claim_ended.outcome == "release"
        with app.engine.begin() as connection:
            connection.execute(delete(jobs))

    assert counts[0] == counts[1] <= 8


def test_every_edge_that_a_job_took_is_an_edge_of_its_machine(app, clock):
    script.send = fail
    send(app, 3)
    ended = [
        one
        for _ in range(3)
        for one in (*app.drain().ended, clock.advance(BACKOFF))
        if one
    ]

    assert {JOB_MACHINE.edge(one.outcome).target for one in ended} == {
        "failed",
        "discarded",
    }


def test_a_drain_without_end_says_which_jobs_go_on(app):
    def again(letter, ctx, _label):
        Letter.put_on_scale.enqueue(ctx.session, letter)

    script.weigh = again
    enqueue(app, Letter, "put_on_scale")

    with pytest.raises(
        StateJobsError, match=r"after 25 attempts \(25 of letter\.weigh\)"
    ):
        app.drain(most=25)

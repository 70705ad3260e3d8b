"""Many records in one call of the action: each job still ends by itself."""

import os
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import event, select, update

from statejobs import (
    Cancel,
    ChunkContext,
    JobOutcome,
    JobState,
    Stale,
    StateJobsError,
    TransitionRefusedError,
    WorkerSettings,
    acting_as,
    tenant,
)
from statejobs.acting import current_actor, current_tenant
from statejobs.runner.steps import Steps
from statejobs.store.tables import attempts, jobs
from statejobs.values.outcome import Snooze
from tests.support.meters import SIZE, Meter, Note, meter_office, reset_script, script
from tests.support.parcels import enqueue, fire, job_of, load, run_together, state_of
from tests.support.processes import DEADLINE

READ = [
    ("create", None, "open"),
    ("start", "open", "sending"),
    ("complete", "sending", "read"),
]


@pytest.fixture
def app(database_url, clock):
    """An app with meters; at the end record, job and history must agree."""
    with meter_office(database_url, clock) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _forget_script():
    reset_script()
    yield
    reset_script()


@pytest.fixture
def statements(app):
    """Every statement that the app sends."""
    sent = []
    event.listen(
        app.engine,
        "before_cursor_execute",
        lambda _c, _cursor, text, *_rest: sent.append(text),
    )
    return sent


def read(app, number=3):
    """Commit *number* meters with a job each; return their keys."""
    return enqueue(app, Meter, "read_all", number)


def outcomes(ended):
    return [one.outcome for one in ended]


def states(app, keys):
    return [state_of(app, Meter, key) for key in keys]


def values(app, keys):
    return [load(app, Meter, key).value for key in keys]


def notes(app):
    """Committed notes: (meter, text)."""
    with app.session() as session:
        found = session.scalars(select(Note).order_by(Note.meter_id, Note.id))
        return [(note.meter_id, note.text) for note in found]


def history(app, key):
    rows = app.queries.transitions("Meter", str(key))
    return [
        (row["name"].removeprefix("read_all."), row["source"], row["target"])
        for row in rows
    ]


def set_values(meters, _ctx):
    for meter in meters:
        meter.value = meter.id * 10


def set_and_note(meters, ctx):
    set_values(meters, ctx)
    ctx.session.add_all([Note(meter_id=meter.id, text="read") for meter in meters])


def failing_on(wrong, *, body=set_values):
    """A body that raises when *wrong* is among its records."""

    def fails(meters, ctx):
        body(meters, ctx)
        ctx.session.flush()
        if any(meter.id == wrong for meter in meters):
            raise ValueError("no such meter")

    return fails


# One call ----------------------------------------------------------------------------------------


def test_jobs_that_are_claimed_together_run_in_one_call(app):
    script.read = set_values
    keys = read(app, 3)

    ended = app.step(3)

    assert script.calls == [keys]
    assert outcomes(ended) == ["complete"] * 3
    assert values(app, keys) == [key * 10 for key in keys]
    assert [history(app, key) for key in keys] == [READ] * 3
    assert {job_of(app, Meter, key).state for key in keys} == {JobState.COMPLETED}


def test_a_call_takes_no_more_than_the_size_of_the_chunk(app):
    keys = read(app, 2 * SIZE + 1)

    app.step(2 * SIZE + 1)

    assert script.calls == [keys[:SIZE], keys[SIZE : 2 * SIZE], keys[2 * SIZE :]]


def test_a_step_runs_no_more_jobs_than_it_is_told(app):
    keys = read(app, 3)

    app.step(2)

    assert script.calls == [keys[:2]]


def test_a_drain_fills_every_call(app):
    keys = read(app, SIZE + 2)

    drained = app.drain()

    assert script.calls == [keys[:SIZE], keys[SIZE:]]
    assert drained.counts == {"complete": SIZE + 2}


def test_jobs_of_other_triggers_are_run_by_themselves(app):
    (first, *_), (alone,) = read(app, 2), enqueue(app, Meter, "look_at")

    app.step(3)

    assert script.calls == [[first, first + 1], alone]


@pytest.mark.parametrize("body", [set_values, set_and_note])
def test_the_number_of_statements_does_not_grow_with_the_records(app, statements, body):
    counts = []
    script.read = body
    for number in (2, SIZE):
        read(app, number)
        del statements[:]
        app.step(number)
        counts.append(sum("INTO meter_notes" not in text for text in statements))

    assert counts[0] == counts[1]


def test_the_context_tells_of_each_job(app):
    seen = {}

    def look(meters, ctx):
        seen["keys"] = [ctx.idempotency_key(meter) for meter in meters]
        seen["ids"] = [job.record_id for job in ctx.jobs]
        seen["now"], seen["asked"] = ctx.now, ctx.cancel_requested

    script.read = look
    keys = read(app)
    app.step(3)

    assert seen["keys"] == [job_of(app, Meter, key).idempotency_key for key in keys]
    assert seen["ids"] == [str(key) for key in keys]
    assert seen["now"] == app.sources.clock.now()
    assert not seen["asked"]


def test_a_record_of_another_call_is_refused_by_the_context(app):
    script.read = lambda _meters, ctx: ctx.fail(Meter(), "not mine")
    (key,) = read(app, 1)

    app.step(1)

    (row,) = app.queries.attempts(job_of(app, Meter, key).id)
    assert "is not one of the 1 records of this call" in row["message"]


def test_a_call_is_of_one_tenant_and_acts_for_an_actor_that_all_share(app):
    seen = []
    script.read = lambda _meters, _ctx: seen.append((current_tenant(), current_actor()))
    for name, actor in (
        ("a", "user:1"),
        ("a", "user:1"),
        ("b", "user:1"),
        ("b", "user:2"),
    ):
        with tenant(name), acting_as(actor):
            read(app, 1)

    app.step(4)

    assert seen == [("a", "user:1"), ("b", None)]
    assert [len(call) for call in script.calls] == [2, 2]


def test_a_record_whose_guard_says_no_is_left_out(app):
    keys = read(app)
    script.may_read = lambda meter: meter.id != keys[1]

    ended = app.step(3)

    assert script.calls == [[keys[0], keys[2]]]
    assert outcomes(ended) == ["complete", "cancel", "complete"]
    assert job_of(app, Meter, keys[1]).reason == "stale: The door is locked."
    assert states(app, keys) == ["read", "open", "read"]


# What the session writes -------------------------------------------------------------------------


def test_what_the_session_writes_commits_with_every_outcome(app):
    script.read = set_and_note
    keys = read(app)

    ended = app.step(3)

    assert outcomes(ended) == ["complete"] * 3
    assert values(app, keys) == [key * 10 for key in keys]
    assert notes(app) == [(key, "read") for key in keys]
    assert [history(app, key) for key in keys] == [READ] * 3


def test_nothing_is_written_when_the_commit_fails(app, monkeypatch):
    def fail(*_args, **_options):
        raise RuntimeError("before the commit")

    script.read = set_and_note
    keys = read(app, 2)
    monkeypatch.setattr(Steps, "take_within", fail)

    ended = app.step(2)

    assert outcomes(ended) == ["fail", "fail"]
    assert script.calls == [keys, *([key] for key in keys)]
    assert (notes(app), values(app, keys)) == ([], [0, 0])


def test_the_action_cannot_commit_itself(app):
    script.read = lambda _meters, ctx: ctx.session.commit()
    (key,) = read(app, 1)

    assert outcomes(app.step(1)) == ["fail"]
    assert state_of(app, Meter, key) == "open"


# A poisoned record -------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [set_values, set_and_note])
def test_a_call_that_raises_is_repeated_one_by_one_so_that_the_wrong_record_fails_alone(
    app, body
):
    keys = read(app)
    script.read = failing_on(keys[1], body=body)

    ended = app.step(3)

    assert script.calls == [keys, *([key] for key in keys)]
    assert outcomes(ended) == ["complete", "fail", "complete"]
    assert states(app, keys) == ["read", "open", "read"]
    assert values(app, keys) == [keys[0] * 10, 0, keys[2] * 10]
    written = [] if body is set_values else [(keys[0], "read"), (keys[2], "read")]
    assert notes(app) == written  # each once, though the body ran twice
    assert [job_of(app, Meter, key).attempt for key in keys] == [1, 1, 1]


def test_what_a_call_that_raised_changed_is_not_seen_by_the_next(app):
    seen = []

    def change(meters, _ctx):
        seen.extend(meter.value for meter in meters)
        for meter in meters:
            meter.value = 99
        if len(meters) > 1:
            raise ValueError

    script.read = change
    keys = read(app, 2)
    app.step(2)

    assert seen == [0, 0, 0, 0]
    assert values(app, keys) == [99, 99]


def test_a_job_that_failed_before_runs_alone_from_then_on(app, clock):
    keys = read(app)
    script.read = failing_on(keys[1])
    app.step(3)
    more = read(app, 2)
    clock.advance(minutes=1)
    del script.calls[:]

    counts = app.drain().counts

    assert sorted(script.calls) == [[keys[1]], more]
    assert counts == {"discard": 1, "complete": 2}
    assert state_of(app, Meter, keys[1]) == "broken"


def test_jobs_whose_worker_died_under_a_call_run_alone(app, clock):
    keys = read(app)
    app.runner().claim("default", limit=3)
    clock.advance(minutes=1)
    assert app.runner().rescue() == 3

    app.drain()

    assert script.calls == [[key] for key in keys]
    assert states(app, keys) == ["read"] * 3


def test_a_value_that_the_database_refuses_fails_its_own_job_only(app):
    keys = read(app)

    def note(meters, ctx):
        ctx.session.add_all(
            [
                Note(meter_id=m.id, text=None if m.id == keys[2] else "read")
                for m in meters
            ]
        )

    script.read = note
    assert outcomes(app.step(3)) == ["complete", "complete", "fail"]
    assert notes(app) == [(key, "read") for key in keys[:2]]


def test_a_call_that_takes_too_long_is_a_failed_attempt_of_each(database_url, clock):
    release = threading.Event()
    with meter_office(database_url, clock) as app:
        keys = read(app, 2)
        runner = app.runner()
        claims = runner.claim("default", limit=2)
        for claim in claims:
            claim.policy = replace(claim.policy, timeout=timedelta(seconds=0.1))
        script.read = lambda _meters, _ctx: release.wait(DEADLINE)
        ended = run_together(runner, claims)
        release.set()

        assert outcomes(ended) == ["fail", "fail"]
        assert script.calls == [keys]
        assert states(app, keys) == ["open", "open"]


# Other outcomes of one record --------------------------------------------------------------------


@pytest.mark.parametrize("body", [set_values, set_and_note])
def test_one_record_may_end_in_another_way(app, clock, body):
    keys = read(app, 4)

    def judge(meters, ctx):
        body(meters, ctx)
        ctx.fail(meters[0], ValueError("unreadable"))
        ctx.snooze(meters[1], timedelta(minutes=5), reason="nobody home")
        ctx.cancel(meters[2], "torn down")

    script.read = judge
    ended = app.step(4)

    assert script.calls == [keys]
    assert outcomes(ended) == ["fail", "snooze", "cancel", "complete"]
    assert states(app, keys) == ["open", "open", "broken", "read"]
    assert values(app, keys) == [0, 0, 0, keys[3] * 10]
    assert [one.run_at for one in ended[1:]] == [
        clock.now() + timedelta(minutes=5),
        None,
        None,
    ]
    assert [job_of(app, Meter, key).attempt for key in keys] == [1, 0, 1, 1]
    with app.engine.connect() as connection:
        tried = connection.execute(select(attempts.c.outcome, attempts.c.message)).all()
    assert sorted(tried) == [("cancelled", "torn down"), ("failed", "unreadable")]


@pytest.mark.parametrize("body", [set_values, set_and_note])
def test_one_record_may_be_stale(app, body):
    keys = read(app)

    def judge(meters, ctx):
        body(meters, ctx)
        ctx.stale(meters[1], "read by hand")

    script.read = judge
    app.step(3)

    ended = [job_of(app, Meter, key) for key in keys]
    done, stale = JobOutcome.COMPLETED, JobOutcome.STALE
    assert [job.outcome for job in ended] == [done, stale, done]
    assert (ended[1].attempt, ended[1].reason) == (0, "stale: read by hand")
    assert states(app, keys) == ["read", "open", "read"]
    assert values(app, keys) == [keys[0] * 10, 0, keys[2] * 10]
    with app.engine.connect() as connection:
        assert connection.execute(select(attempts)).all() == []


def test_an_error_in_words_is_one(app):
    script.read = lambda meters, ctx: ctx.fail(meters[0], "unreadable")
    (key,) = read(app, 1)
    app.step(1)

    (row,) = app.queries.attempts(job_of(app, Meter, key).id)
    assert (row["error_type"], row["message"]) == ("", "unreadable")


@pytest.mark.parametrize(
    ("asked", "outcome", "state"),
    [
        (Snooze(minutes=1), "snooze", "open"),
        (Cancel("no road"), "cancel", "broken"),
        (Stale("no meters any more"), "cancel", "open"),
    ],
)
def test_snooze_cancel_and_stale_are_asked_for_all(app, asked, outcome, state):
    def ask(_meters, _ctx):
        raise asked

    script.read = ask
    keys = read(app)

    assert outcomes(app.step(3)) == [outcome] * 3
    assert script.calls == [keys]
    assert states(app, keys) == [state] * 3


# Members that moved on ---------------------------------------------------------------------------


def meanwhile(app, does, *, body):
    """Run three jobs; in the first call *does* is called with the second key."""
    keys = read(app)

    def run(meters, ctx):
        if len(meters) == 3:
            does(keys[1], ctx)
        body(meters, ctx)

    script.read = run
    return keys, app.step(3)


def take_away(app, key):
    """Hand the job of a meter to another worker."""
    with app.engine.begin() as connection:
        connection.execute(
            update(jobs).where(jobs.c.record_id == str(key)).values(token="other")
        )


def give_back(app, key):
    """Let the lease of a job that nobody runs end, so that record and job agree again."""
    over = app.sources.clock.now() - timedelta(seconds=1)
    with app.engine.begin() as connection:
        is_its = jobs.c.record_id == str(key)
        connection.execute(update(jobs).where(is_its).values(lease_until=over))
    app.runner().rescue()


@pytest.mark.parametrize("body", [set_values, set_and_note])
def test_a_record_that_someone_moved_takes_no_other_down(app, body):
    keys, ended = meanwhile(
        app, lambda key, _ctx: fire(app, Meter, key, "smash"), body=body
    )

    assert outcomes(ended) == ["complete", "cancel", "complete"]
    assert states(app, keys) == ["read", "broken", "read"]
    assert values(app, keys) == [keys[0] * 10, 0, keys[2] * 10]
    assert [meter for meter, _ in notes(app)] == (
        [] if body is set_values else [keys[0], keys[2]]
    )


@pytest.mark.parametrize("body", [set_values, set_and_note])
def test_a_lease_that_is_lost_takes_no_other_down(app, body):
    keys, ended = meanwhile(app, lambda key, _ctx: take_away(app, key), body=body)

    assert outcomes(ended) == ["complete", "late", "complete"]
    assert states(app, keys) == ["read", "sending", "read"]
    assert values(app, keys) == [keys[0] * 10, 0, keys[2] * 10]
    assert [meter for meter, _ in notes(app)] == (
        [] if body is set_values else [keys[0], keys[2]]
    )
    give_back(app, keys[1])


@pytest.mark.parametrize("body", [set_values, set_and_note])
def test_a_job_that_was_enqueued_anew_completes_with_the_others(app, body):
    def ask_again(key, _ctx):
        with app.session() as session:
            Meter.read_all.enqueue(session, session.get(Meter, key))
            session.commit()

    keys, ended = meanwhile(app, ask_again, body=body)

    assert script.calls == [keys]
    assert outcomes(ended) == ["complete"] * 3
    assert states(app, keys) == ["read"] * 3


def test_claims_that_this_worker_gave_up_are_not_run_again(app):
    keys = read(app)
    runner = app.runner()
    claims = runner.claim("default", limit=3)

    def lose(meters, ctx):
        set_and_note(meters, ctx)
        claims[0].is_lost = True

    script.read = lose
    ended = run_together(runner, claims)

    assert outcomes(ended) == ["late", "complete", "complete"]
    assert script.calls == [keys, [keys[1]], [keys[2]]]
    assert notes(app) == [(key, "read") for key in keys[1:]]
    give_back(app, keys[0])


# A real worker -----------------------------------------------------------------------------------


def test_a_worker_fills_calls_beyond_its_slots_and_ends_every_job_once(database_url):
    script.read = set_and_note
    number = 10 * SIZE
    with meter_office(database_url, None, queues={"default": 2}) as app:
        keys = read(app, number)
        with app.running():
            wait_for(app, number)

        assert sorted(key for call in script.calls for key in call) == keys
        assert {len(call) for call in script.calls} == {SIZE}
        assert notes(app) == [(key, "read") for key in keys]
        assert values(app, keys) == [key * 10 for key in keys]


def test_a_worker_gives_back_a_call_that_does_not_end(database_url):
    started, release = threading.Event(), threading.Event()

    def hang(_meters, _ctx):
        started.set()
        release.wait(DEADLINE)

    script.read = hang
    settings = WorkerSettings(shutdown_grace=timedelta(seconds=0.05))
    with meter_office(database_url, None, settings=settings) as app:
        keys = read(app, 3)
        with app.running():
            assert started.wait(DEADLINE)
        release.set()

        assert states(app, keys) == ["open"] * 3
        assert [job_of(app, Meter, key).attempt for key in keys] == [0, 0, 0]


def wait_for(app, number):
    """Wait until *number* jobs are completed."""
    pause = threading.Event()
    for _ in range(600):
        if app.queries.counts()["default"].get("completed") == number:
            return
        pause.wait(0.05)
    raise AssertionError(f"not done: {app.queries.counts()}")


# Called here -------------------------------------------------------------------------------------


def test_a_test_calls_it_with_records_and_a_context(app):
    meters = [Meter(), Meter()]
    script.read = lambda found, ctx: ctx.cancel(found[1], "gone")
    with app.session() as session:
        session.add_all(meters)
        session.flush()
        ctx = ChunkContext(
            session=session, records=meters, jobs=[], now=app.sources.clock.now()
        )
        Meter.read_all(meters, ctx)
        assert [meter.state.value for meter in meters] == ["read", "open"]

        with pytest.raises(TransitionRefusedError):
            Meter.read_all([meters[0]], ctx)
        with pytest.raises(StateJobsError, match="is not one of the 2 records"):
            ctx.cancel(Meter(), "unknown")


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_copy_that_a_call_forked_ends_when_the_call_returns(app):
    copies = []

    def fork(meters, ctx):
        set_values(meters, ctx)
        copies.append(os.fork())

    script.read = fork
    keys = read(app)

    app.drain()

    (copy,) = copies
    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 1
    assert states(app, keys) == ["read"] * 3

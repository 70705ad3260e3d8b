"""`ctx.session`: its writes commit with the outcome, and reading holds nothing."""

import sqlite3
import threading

import pytest
from sqlalchemy import event, select, text

from statejobs import Cancel, JobState, StateJobsError
from tests.support.parcels import (
    Item,
    Parcel,
    add,
    attempts_of,
    job_of,
    load,
    post_office,
    script,
    send,
    state_of,
)


def count(app, table):
    with app.engine.connect() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def test_what_the_body_writes_commits_with_the_outcome(app):
    def pack(parcel, ctx):
        ctx.session.add(Item(name="book", parcel=parcel))
        ctx.session.add(Item(name="pen", parcel=parcel))

    script.send = pack
    (key,) = send(app)

    app.drain()

    assert count(app, "items") == 2
    assert state_of(app, Parcel, key) == "sent"


def test_what_a_failing_body_wrote_is_rolled_back(app):
    def pack(parcel, ctx):
        ctx.session.add(Item(name="book", parcel=parcel))
        parcel.stamps = 3
        ctx.session.flush()
        raise ValueError

    script.send = pack
    (key,) = send(app)

    app.drain()

    assert (count(app, "items"), load(app, Parcel, key).stamps) == (0, 0)


def test_a_transition_of_another_record_enqueues_with_the_outcome(app, clock):
    (lost,) = send(app)
    script.send = lambda *_: 1 / 0
    for _ in range(3):
        app.drain()
        clock.advance(seconds=20)

    def find(parcel, ctx):
        if parcel.id != lost:
            ctx.session.get_one(Parcel, lost).find()

    script.send = find
    (finder,) = send(app)

    counts = app.drain().counts

    assert counts == {"complete": 2}
    assert (state_of(app, Parcel, lost), state_of(app, Parcel, finder)) == (
        "sent",
        "sent",
    )


def test_a_transition_of_another_record_is_undone_with_a_failure(app):
    (other,) = send(app)

    def drop(_parcel, ctx):
        ctx.session.get_one(Parcel, other).drop()
        ctx.session.flush()
        raise ValueError

    script.send = lambda parcel, ctx: drop(parcel, ctx) if parcel.id != other else None
    send(app, priority=0)

    app.drain()

    assert state_of(app, Parcel, other) == "sent"


def test_a_transition_of_the_record_itself_is_refused_with_a_hint(app):
    script.send = lambda parcel, _ctx: parcel.drop()
    (key,) = send(app)

    app.drain()

    (row,) = app.queries.attempts(job_of(app, Parcel, key).id)
    assert row["error_type"].endswith("TransitionRefusedError")
    assert "The job of 'send_off' runs on it" in row["message"]


@pytest.mark.parametrize("way", ["commit", "begin"])
def test_a_commit_by_the_body_is_refused_and_fails_the_attempt(app, way):
    def commit(parcel, ctx):
        parcel.stamps = 3
        if way == "commit":
            ctx.session.commit()
            return
        ctx.session.rollback()
        with ctx.session.begin():
            parcel.stamps = 3

    script.send = commit
    (key,) = send(app)

    app.drain()

    ((_, outcome, error_type),) = attempts_of(app, Parcel, key)
    assert (outcome, error_type) == ("failed", "statejobs.errors.StateJobsError")
    assert load(app, Parcel, key).stamps == 0


def test_a_rollback_by_the_body_drops_its_writes_and_the_job_still_completes(app):
    def undo(parcel, ctx):
        ctx.session.add(Item(name="book", parcel=parcel))
        ctx.session.flush()
        ctx.session.rollback()
        assert parcel.state.value == "sending"
        parcel.note = "after"

    script.send = undo
    (key,) = send(app)

    app.drain()

    assert (count(app, "items"), load(app, Parcel, key).note) == (0, "after")
    assert state_of(app, Parcel, key) == "sent"


def test_a_savepoint_of_the_body_undoes_only_itself(app):
    def save(parcel, ctx):
        ctx.session.add(Item(name="kept", parcel_id=parcel.id))
        ctx.session.flush()
        savepoint = ctx.session.begin_nested()
        ctx.session.add(Item(name="undone", parcel_id=parcel.id))
        ctx.session.flush()
        savepoint.rollback()

    script.send = save
    (key,) = send(app)

    app.drain()

    with app.session() as session:
        assert session.scalars(select(Item.name)).all() == ["kept"]
    assert state_of(app, Parcel, key) == "sent"


def test_what_the_body_reads_is_not_flushed_first(app):
    def read(parcel, ctx):
        parcel.stamps = 3
        seen.append(
            ctx.session.scalar(select(Parcel.stamps).where(Parcel.id == parcel.id))
        )

    seen = []
    script.send = read
    (key,) = send(app)

    app.drain()

    assert (seen, load(app, Parcel, key).stamps) == ([0], 3)


def test_no_transaction_is_open_while_the_body_only_reads(postgres_url, clock):
    with post_office(postgres_url, clock=clock) as app:
        seen = []

        def read_then_write(parcel, ctx):
            seen.append(connections(app))
            assert [item.name for item in parcel.items] == ["book"]  # a lazy load
            ctx.session.scalars(select(Item)).all()
            seen.append(connections(app))
            ctx.session.add(Item(name="pen", parcel=parcel))
            ctx.session.flush()
            seen.append(connections(app))

        script.send = read_then_write
        (key,) = send(app)
        add(app, Item(name="book", parcel_id=key))

        app.drain()

        before, after_reading, after_writing = seen
        assert set(before) <= {("idle", None)}
        assert set(after_reading) == {("idle", None)}
        assert "idle in transaction" in {state for state, _ in after_writing}
        assert state_of(app, Parcel, key) == "sent"


def connections(app):
    """Every other connection to the database: (state, backend_xmin)."""
    query = text(
        "SELECT state, backend_xmin FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    engine = app.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


def test_another_process_can_write_while_a_body_that_only_read_goes_on(
    sqlite_url, clock
):
    with post_office(sqlite_url, clock=clock) as app:

        def read(parcel, ctx):
            assert parcel.items == []
            ctx.session.scalars(select(Item)).all()
            with sqlite3.connect(app.engine.url.database, timeout=0) as other:
                other.execute("UPDATE parcels SET note = 'written meanwhile'")
            other.close()

        script.send = read
        (key,) = send(app)

        app.drain()

        assert job_of(app, Parcel, key).state is JobState.COMPLETED
        assert load(app, Parcel, key).note == "written meanwhile"


def test_columns_that_others_wrote_meanwhile_are_kept(app):
    def meanwhile(parcel, _ctx):
        with app.engine.begin() as other:
            other.execute(text("UPDATE parcels SET note = 'of another'"))
        parcel.stamps = 3

    script.send = meanwhile
    (key,) = send(app)

    app.drain()

    parcel = load(app, Parcel, key)
    assert (parcel.stamps, parcel.note, parcel.state.value) == (3, "of another", "sent")


def test_a_slow_call_inside_an_open_transaction_is_warned_about(
    app, monkeypatch, caplog
):
    monkeypatch.setattr("statejobs.work.outcomes.LONG_TRANSACTION", -1.0)

    def write_first(parcel, ctx):
        parcel.stamps = 3
        ctx.session.flush()

    script.send = write_first
    send(app)

    app.drain()

    assert "write after slow calls, not before" in caplog.text


def test_notes_are_refused_to_a_context_that_belongs_to_no_job():
    from statejobs import JobContext

    ctx = JobContext(session=None, job=None, now=None)

    with pytest.raises(StateJobsError, match="belongs to no running job"):
        ctx.progress(1, 2)


# Progress and checkpoints ------------------------------------------------------------------------


def test_progress_is_visible_while_the_job_runs(app):
    seen = []

    def work(parcel, ctx):
        ctx.progress(1, 4)
        seen.append(job_of(app, Parcel, parcel.id).progress)

    script.send = work
    send(app)

    app.drain()

    assert seen == ['{"done":1,"total":4}']


def test_progress_is_written_at_most_once_a_second_and_always_at_the_end(app, clock):
    def work(_parcel, ctx):
        for done in range(101):
            ctx.progress(done, 100)
            clock.advance(seconds=0.1)

    writes = []
    script.send = work
    send(app)
    event.listen(
        app.engine,
        "before_cursor_execute",
        lambda *a: writes.append(a[2]) if "SET progress" in a[2] else None,
    )

    app.drain()

    assert len(writes) in {11, 12}  # a tenth of a second is not exact in binary


@pytest.mark.parametrize("done", [-1, 5])
def test_impossible_progress_is_refused(app, done):
    script.send = lambda _parcel, ctx: ctx.progress(done, 4)
    (key,) = send(app)

    app.drain()

    assert attempts_of(app, Parcel, key) == [
        (1, "failed", "statejobs.errors.WrongValueError")
    ]


@pytest.mark.parametrize("has_written", [False, True])
def test_checkpoints_outlive_a_failed_attempt_also_when_its_transaction_was_open(
    app, clock, has_written
):
    found = []

    def work(parcel, ctx):
        found.append(dict(ctx.checkpoint))
        if has_written:
            parcel.stamps = 1
            ctx.session.flush()
        ctx.checkpoint["page"] = ctx.checkpoint.get("page", 0) + 1
        raise ValueError

    script.send = work
    send(app)

    for _ in range(3):
        app.drain()
        clock.advance(seconds=20)

    assert found == [{}, {"page": 1}, {"page": 2}]


def test_a_checkpoint_ends_with_its_job(app):
    script.send = lambda _parcel, ctx: ctx.checkpoint.update(page=1)
    (key,) = send(app)

    app.drain()

    assert job_of(app, Parcel, key).checkpoint is None


@pytest.mark.parametrize("how", ["discard", "cancel"])
def test_a_job_that_goes_on_by_a_retry_finds_what_it_saved_before_it_was_given_up(
    app, clock, how
):
    seen = []

    def charge(_parcel, ctx):
        seen.append((dict(ctx.checkpoint), ctx.idempotency_key))
        if len(seen) > 3:
            return
        ctx.checkpoint["charged"] = True
        if how == "cancel":
            seen.extend(seen[:1] * 2)
            raise Cancel("not today")
        raise ValueError("no")

    script.send = charge
    (key,) = send(app)
    for _ in range(3):
        app.drain()
        clock.advance(hours=1)
    job = job_of(app, Parcel, key)
    assert job.state in {JobState.DISCARDED, JobState.CANCELLED}

    app.retry_job(job.id)
    app.drain()

    (before, first_key), *_, (after, last_key) = seen
    assert (before, after) == ({}, {"charged": True})
    assert first_key == last_key
    assert job_of(app, Parcel, key).checkpoint is None  # it has completed


def test_a_checkpoint_that_is_no_json_is_refused(app):
    script.send = lambda _parcel, ctx: ctx.checkpoint.update(page=object())
    (key,) = send(app)

    app.drain()

    assert attempts_of(app, Parcel, key) == [
        (1, "failed", "statejobs.errors.ArgumentsError")
    ]


def test_a_body_in_a_thread_sees_actor_and_tenant(app):
    from statejobs import acting_as, tenant
    from statejobs.acting import current_actor, current_tenant

    seen = []
    script.send = lambda _p, ctx: seen.append(
        (
            ctx.actor,
            ctx.tenant,
            current_actor(),
            current_tenant(),
            threading.current_thread().name,
        )
    )
    with acting_as("user:7"), tenant("acme"):
        (key,) = send(app)

    app.drain()

    assert seen[0][:4] == ("user:7", "acme", "user:7", "acme")
    assert {
        row["actor"] for row in app.queries.transitions("Parcel", str(key))[1:]
    } == {"user:7"}

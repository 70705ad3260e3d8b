"""An action may delete its own record when it says so; else that is its own failed attempt."""

import asyncio
from collections import deque
from datetime import timedelta
from types import SimpleNamespace

import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from statejobs import (
    ChunkContext,
    JobOutcome,
    JobState,
    Snooze,
    StaleTransitionError,
    configure_sqlite,
    mermaid,
)
from statejobs.runner.calls import calls_of, pop_call
from statejobs.store.engines.factory import async_url
from statejobs.store.tables import jobs
from tests.support.forms import FORMS, Plain, office, script, write_on_board
from tests.support.forms import board as board_of
from tests.support.parcels import (
    attempts_of,
    enqueue,
    fire,
    job_of,
    run_together,
    state_of,
)
from tests.support.purges import (
    PURGES,
    Atomic,
    Awaited,
    AwaitedAtomic,
    Chunked,
    Line,
    Resting,
)
from tests.support.purges import Plain as Purged


@pytest.fixture
def app(database_url):
    """An app with an action that deletes in each form."""
    with office(database_url, PURGES) as opened:
        yield opened


@pytest.fixture
def plain_app(database_url):
    """An app with an action that declares nothing in each form."""
    with office(database_url) as opened:
        yield opened


def is_gone(app, form, key):
    with app.session() as session:
        return session.get(form, key) is None


def last_step(app, form, key):
    row = app.queries.transitions(form.__name__, str(key))[-1]
    return row["name"], row["source"], row["target"], row["version"]


every_form = pytest.mark.parametrize("form", PURGES, ids=lambda form: form.__name__)

WAYS = {
    "leaves it to the runner": lambda _record, _session: None,
    "deletes it through the session": lambda record, session: session.delete(record),
    "deletes and flushes": lambda record, session: (
        session.delete(record),
        session.flush(),
    ),
    "deletes by SQL": lambda record, session: session.execute(
        delete(type(record)).where(type(record).id == record.id)
    ),
    "deletes by text": lambda record, session: session.execute(
        text(f"DELETE FROM {record.__tablename__} WHERE id = {record.id}")
    ),
    "expunges it": lambda record, session: session.expunge(record),
    "changes it first": lambda record, session: (
        setattr(record, "n", 3),
        session.flush(),
    ),
}


@every_form
@pytest.mark.parametrize("way", WAYS)
def test_an_action_that_declares_it_deletes_its_record_in_the_commit_of_its_end(
    app, form, way
):
    keys = enqueue(app, form, "erase", 2)
    script.body = lambda records, session, _ctx: [
        WAYS[way](one, session) for one in records
    ]

    counts = app.drain().counts

    assert counts == {"complete": 2}
    for key in keys:
        assert is_gone(app, form, key)
        assert attempts_of(app, form, key) == []
        if form is not Resting:
            assert last_step(app, form, key) == (
                "erase.complete",
                "erasing",
                "(deleted)",
                2,
            )


def test_what_is_deleted_with_the_record_goes_by_the_cascades_of_the_orm(app):
    (key,) = enqueue(app, Purged, "erase")
    with app.session() as session:
        session.add_all([Line(plain_id=key), Line(plain_id=key)])
        session.commit()

    app.drain()

    with app.session() as session:
        assert session.query(Line).count() == 0


@every_form
def test_other_jobs_of_a_record_that_is_deleted_end_with_it(app, form):
    (key,) = enqueue(app, form, "erase")
    with app.session() as session:
        record = session.get_one(form, key)
        later = form.peer.options(delay=timedelta(hours=1)).enqueue(session, record)
        session.commit()

    app.drain()

    job = app.queries.job(later.job_id)
    assert (job.state, job.outcome, job.reason) == (
        JobState.CANCELLED,
        JobOutcome.STALE,
        "its record was deleted by erase",
    )


def test_a_running_job_of_a_record_that_is_deleted_is_told(app):
    (key,) = enqueue(app, Resting, "peer")
    (looking,) = app.runner().claim("default", limit=1)
    with app.session() as session:
        Resting.erase.enqueue(session, session.get_one(Resting, key))
        session.commit()

    app.drain()
    ended = app.runner().run(looking)

    assert is_gone(app, Resting, key)
    assert (ended.job_outcome, ended.reason) == (
        JobOutcome.SUPERSEDED,
        "superseded: the record is gone",
    )


def test_a_deletion_with_a_during_waits_for_a_running_job_of_the_record(app):
    (key,) = enqueue(app, Purged, "peer")
    (looking,) = app.runner().claim("default", limit=1)
    with app.session() as session:
        Purged.erase.enqueue(session, session.get_one(Purged, key))
        session.commit()

    assert app.drain().counts == {}

    assert not is_gone(app, Purged, key)
    assert app.runner().run(looking).outcome == "complete"


@pytest.mark.parametrize(
    "form", [Purged, Resting, Awaited, Chunked], ids=lambda f: f.__name__
)
def test_a_job_that_was_enqueued_again_while_it_deleted_its_record_is_done(app, form):
    (key,) = enqueue(app, form, "erase")

    def body(_records, _session, _ctx):
        with app.engine.begin() as connection:
            connection.execute(update(jobs).values(run_again=True))

    script.body = body

    assert app.drain().counts == {"complete": 1}
    assert job_of(app, form, key).state is JobState.COMPLETED


@pytest.mark.parametrize(
    "form", [Purged, Resting, Awaited, Chunked], ids=lambda f: f.__name__
)
def test_a_record_that_somebody_moved_first_is_not_deleted(app, form):
    (key,) = enqueue(app, form, "erase")
    script.body = lambda _records, _session, _ctx: fire(app, form, key, "keep")

    app.drain()

    assert state_of(app, form, key) == "stuck"
    assert job_of(app, form, key).state is JobState.CANCELLED


@every_form
def test_an_attempt_that_fails_or_waits_deletes_nothing(app, form):
    (key,) = enqueue(app, form, "erase")

    def body(records, session, _ctx):
        session.delete(records[0])
        session.flush()
        raise Snooze(minutes=5)

    script.body = body

    assert app.drain().counts == {"snooze": 1}
    assert state_of(app, form, key) == "old"


def test_a_delete_that_the_database_refuses_is_a_failed_attempt(app):
    (key,) = enqueue(app, Resting, "erase")
    with app.engine.begin() as connection:
        kind = "INTEGER" if app.engine.dialect.name == "sqlite" else "BIGINT"
        connection.execute(
            text(f"CREATE TABLE strangers (r {kind} REFERENCES restings (id))")
        )
        connection.execute(text(f"INSERT INTO strangers VALUES ({key})"))

    app.drain()

    assert [row[1] for row in attempts_of(app, Resting, key)] == ["failed"]
    assert state_of(app, Resting, key) == "old"
    with app.engine.begin() as connection:
        connection.execute(text("DROP TABLE strangers"))


def test_of_a_call_only_what_completes_is_deleted(app):
    first, second, third = enqueue(app, Chunked, "erase", 3)

    def body(records, _session, ctx):
        for record in records:
            if record.id == second:
                ctx.snooze(record, timedelta(minutes=5))
            if record.id == third:
                ctx.fail(record, "not yet")

    script.body = body
    app.drain()

    assert [is_gone(app, Chunked, key) for key in (first, second, third)] == [
        True,
        False,
        False,
    ]
    assert job_of(app, Chunked, third).state is JobState.FAILED


def test_atomic_ones_that_share_a_transaction_delete_each_its_own(app):
    first, second, third = enqueue(app, Atomic, "erase", 3)

    def body(records, _session, _ctx):
        if records[0].id == second:
            raise ValueError("not this one")

    script.body = body
    claims = app.runner().claim("default", limit=3)
    ended = run_together(app.runner(), pop_call(deque(calls_of(claims)), most=100))

    assert [one.outcome for one in ended] == ["complete", "fail", "complete"]
    assert [is_gone(app, Atomic, key) for key in (first, second, third)] == [
        True,
        False,
        True,
    ]


def call_directly(form, record, session):
    if form is Chunked:
        ctx = ChunkContext(session=session, records=[record], jobs=[], now=None)
        form.erase([record], ctx)
    else:
        record.erase(SimpleNamespace(session=session))


async def call_and_await(app, form, key):
    engine = create_async_engine(async_url(app.engine))
    if engine.dialect.name == "sqlite":
        configure_sqlite(engine.sync_engine)
    async with AsyncSession(engine) as session:
        record = await session.get_one(form, key)
        await record.erase(SimpleNamespace(session=session))
        await session.commit()
    await engine.dispose()


@every_form
def test_called_directly_it_deletes_the_record_with_the_next_flush(app, form):
    (key,) = enqueue(app, form, "erase")
    if form in {Awaited, AwaitedAtomic}:
        asyncio.run(call_and_await(app, form, key))
    else:
        with app.session() as session:
            call_directly(form, session.get_one(form, key), session)
            session.commit()

    assert is_gone(app, form, key)
    # its lines are loaded first, and that flushes the step by which it left
    left = form is Purged
    assert job_of(app, form, key).outcome is (
        JobOutcome.LEFT if left else JobOutcome.STALE
    )
    if form is not Resting:
        assert last_step(app, form, key) == (
            "erase.complete",
            "erasing",
            "(deleted)",
            2,
        )


def test_called_directly_on_a_record_that_no_flush_has_written_it_takes_it_back(app):
    with app.session() as session:
        record = Purged()
        session.add(record)
        call_directly(Purged, record, session)
        session.commit()

    with app.session() as session:
        assert session.query(Purged).count() == 0


def test_called_directly_a_body_that_raises_deletes_nothing(app):
    (key,) = enqueue(app, Purged, "erase")
    script.body = lambda *_: 1 / 0
    with app.session() as session:
        with pytest.raises(ZeroDivisionError):
            call_directly(Purged, session.get_one(Purged, key), session)
        session.commit()

    assert state_of(app, Purged, key) == "old"


def test_called_directly_on_a_record_that_somebody_moved_it_is_refused_by_the_flush(
    app,
):
    (key,) = enqueue(app, Purged, "erase")
    with app.session() as session:
        record = session.get_one(Purged, key)
        fire(app, Purged, key, "keep")
        with pytest.raises(StaleTransitionError):
            # loads what goes with it, and so flushes
            call_directly(Purged, record, session)

    assert state_of(app, Purged, key) == "stuck"


# Declaring ---------------------------------------------------------------------------------------


def test_the_machine_and_its_diagram_show_that_the_record_goes():
    (purge,) = [t for t in Purged.__machine__.triggers if t.name == "purge"]
    edge = Purged.__machine__.edge("erase.complete")

    assert (purge.deletes, purge.targets) == (True, ("(deleted)",))
    assert (Purged.erase.target, Purged.erase.targets) == (None, ())
    assert (edge.sources, edge.target) == (("erasing",), "(deleted)")
    assert "erasing --> [*] : delete erase" in mermaid(Purged.__machine__)
    assert "(deleted)" not in Purged.__machine__.states


# Undeclared --------------------------------------------------------------------------------------


UNDECLARED = {
    "delete": WAYS["deletes it through the session"],
    "delete and flush": WAYS["deletes and flushes"],
    "SQL delete": WAYS["deletes by SQL"],
    "text delete": lambda record, session: session.execute(
        text(f"DELETE FROM {record.__tablename__} WHERE id = {record.id}")
    ),
    "key": lambda record, _session: setattr(record, "id", record.id + 100),
    "key and flush": lambda record, session: (
        setattr(record, "id", record.id + 100),
        session.flush(),
    ),
    "SQL key": lambda record, session: session.execute(
        text(f"UPDATE {record.__tablename__} SET id = id + 100 WHERE id = {record.id}")
    ),
    "SQL state": lambda record, session: session.execute(
        text(
            f"UPDATE {record.__tablename__} SET state = 'stopped' WHERE id = {record.id}"
        )
    ),
}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("way", UNDECLARED)
def test_an_action_that_takes_its_record_away_unsaid_fails_and_is_told_the_option(
    plain_app, form, way
):
    app = plain_app
    key, neighbour = enqueue(app, form, "act", 2)

    def body(records, session, _ctx):
        write_on_board(session)
        for record in records:
            if record.id == key:
                UNDECLARED[way](record, session)

    script.body = body
    app.drain()

    (row,) = app.queries.attempts(job_of(app, form, key).id)
    assert (row["outcome"], row["error_type"]) == (
        "failed",
        "statejobs.errors.StateJobsError",
    )
    said = "its key 'id' was changed" if way == "key and flush" else "deletes=True"
    assert said in row["message"]
    assert "someone else" not in row["message"]
    assert (state_of(app, form, key), state_of(app, form, neighbour)) == ("new", "done")
    assert board_of(app) == 1


def test_an_undeclared_deletion_that_has_no_attempts_left_leaves_the_record_failed(
    plain_app,
):
    app = plain_app
    (key,) = enqueue(app, Plain, "act")
    with app.engine.begin() as connection:
        connection.execute(update(jobs).values(max_attempts=1))
    script.body = lambda records, session, _ctx: session.delete(records[0])

    app.drain()

    assert (state_of(app, Plain, key), job_of(app, Plain, key).state) == (
        "lost",
        JobState.DISCARDED,
    )

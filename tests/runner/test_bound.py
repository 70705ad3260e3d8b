"""An app on one Connection: what its jobs do is as on an engine, and goes with the rollback."""

from datetime import timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from statejobs import Cancel, Domain, Snooze, StateJobs, WorkerSettings
from tests.support import errands, meters, parcels, purges
from tests.support.bound import (
    begin_numbers_anew,
    outer_transaction,
    rows_of,
    user_engine,
)
from tests.support.clock import ManualClock, manual_sources
from tests.support.errands import DAY, errand, plain, slow
from tests.support.forms import script as purging
from tests.support.meters import Meter, Note
from tests.support.parcels import Item, Letter, Parcel, enqueue, fire, send

ALL = Domain(
    "all", resources=[Parcel, Letter, Meter, purges.Plain], tasks=[errand, plain, slow]
)
BASES = [parcels.Base, meters.Base, purges.Base]
TABLES = [table for base in BASES for table in base.metadata.sorted_tables]


@pytest.fixture(autouse=True)
def _forget_scripts():
    yield
    parcels.reset_script()
    meters.reset_script()
    errands.reset()
    purging.body = lambda _records, _session, _ctx: None


@pytest.fixture
def engine(database_url):
    """The engine of an application, with its tables."""
    engine = user_engine(database_url)
    app_on(engine).create_all()
    for base in BASES:
        base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def app_on(database):
    """An app on *database* whose clock, ids and chance are the same each time."""
    clock = ManualClock()
    app = StateJobs(
        database,
        domains=[ALL],
        settings=WorkerSettings(
            lease=parcels.LEASE, timeout_grace=timedelta(seconds=0.1)
        ),
        sources=manual_sources(clock),
    )
    app.clock = clock
    return app


def fail(*_args):
    raise ValueError("no")


def completes(app):
    send(app, 3)
    app.drain()


def is_given_up_and_tried_again(app):
    parcels.script.send = fail
    parcels.script.tell = lambda parcel, session, _reason: session.add(
        Item(name="gave up", parcel_id=parcel.id)
    )
    send(app, 2)
    for _ in range(3):
        app.drain()
        app.clock.advance(minutes=5)
    parcels.script.send = lambda _parcel, _ctx: None
    fire(app, Parcel, 1, "find")
    app.retry_job(2)
    app.drain()


def has_a_hook_that_fails(app):
    def tell(_parcel, session, _reason):
        session.add(Item(name="lost", parcel_id=12345))
        session.flush()
        fail()

    parcels.script.send, parcels.script.tell = fail, tell
    send(app)
    for _ in range(3):
        app.drain()
        app.clock.advance(minutes=5)


def writes_and_enqueues(app):
    def body(parcel, ctx):
        ctx.session.add(Item(name="list", parcel=parcel))
        plain.enqueue(ctx.session, number=parcel.id)
        letter = Letter(grams=parcel.id)
        ctx.session.add(letter)
        ctx.session.flush()
        Letter.put_on_scale.enqueue(ctx.session, letter)

    parcels.script.send = body
    send(app, 2)
    app.drain()


def writes_and_fails(app):
    def body(parcel, ctx):
        ctx.session.add(Item(name="list", parcel=parcel))
        ctx.session.flush()
        if parcel.id == 2:
            ctx.session.execute(text("insert into nothing values (1)"))
        if parcel.id == 3:
            ctx.session.add(Item(id=1, name="taken", parcel=parcel))

    parcels.script.send = body
    send(app, 4)
    app.drain()


def goes_on_after_a_read_that_fails(app):
    def body(parcel, ctx):
        for _ in range(2):
            with pytest.raises(SQLAlchemyError):
                ctx.session.execute(text("select nothing"))
        ctx.session.rollback()
        parcel.note = f"{ctx.session.scalar(select(Parcel.stamps))} stamps"

    parcels.script.send = body
    send(app, 2)
    app.drain()


def goes_on_after_a_savepoint(app):
    def body(parcel, ctx):
        for name in ("kept", None):
            try:
                with ctx.session.begin_nested():
                    ctx.session.add(Item(name=name, parcel=parcel))
            except SQLAlchemyError:
                parcel.note = "one has no name"

    parcels.script.send = body
    send(app, 2)
    app.drain()


def are_atomic(app):
    def body(letter, ctx):
        letter.grams = letter.id
        ctx.session.add(Parcel(note=f"with {letter.id}"))
        ctx.session.flush()
        if letter.id == 2:
            fail()
        if letter.id == 3:
            ctx.session.execute(text("insert into nothing values (1)"))
        if letter.id == 4:
            raise Snooze(minutes=1)

    parcels.script.seal = body
    enqueue(app, Letter, "press", 6)
    app.drain()
    app.clock.advance(minutes=5)
    app.drain()


def share_a_call(app):
    def read(found, ctx):
        for meter in found:
            meter.value = meter.id
            ctx.session.add(Note(meter_id=meter.id, text="read"))
        ctx.fail(found[0], ValueError("unreadable"))
        ctx.snooze(found[1], timedelta(minutes=1))

    meters.script.read = read
    enqueue(app, Meter, "read_all", 4)
    app.drain()
    meters.script.read = fail
    app.clock.advance(minutes=5)
    app.drain()


def snooze_and_cancel(app):
    def body(parcel, ctx):
        ctx.session.add(Item(name="lost with it", parcel=parcel))
        ctx.session.flush()
        raise Snooze(minutes=1) if parcel.id == 1 else Cancel("not today")

    parcels.script.send = body
    send(app, 2)
    app.drain()


def keeps_a_checkpoint(app):
    def body(ctx, _day, note):
        ctx.checkpoint["tries"] = ctx.checkpoint.get("tries", 0) + 1
        ctx.checkpoint.save()
        if note == "writes":
            ctx.session.add(Parcel(note="by errand"))
            ctx.session.flush()
            ctx.checkpoint["wrote"] = True
            ctx.checkpoint.save()
        if ctx.job.attempt == 1:
            fail()

    errands.script.errand = body
    with app.session() as session:
        errand.enqueue(session, DAY)
        errand.enqueue(session, DAY, note="writes")
        session.commit()
    app.drain()
    app.clock.advance(minutes=5)
    app.drain()


def delete_their_record(app):
    def body(records, session, _ctx):
        if records[0].n:
            fail()
        session.delete(records[0])

    purging.body = body
    with app.session() as session:
        records = [purges.Plain(n=n) for n in (0, 1)]
        session.add_all(records)
        session.flush()
        purges.Plain.erase.enqueue_many(session, records)
        session.commit()
    app.drain()


def has_a_session_of_its_own(app):
    def body(parcel, _ctx):
        with app.session() as session:
            session.add(Item(name="whatever happens", parcel_id=parcel.id))
            session.commit()
        fail()

    parcels.script.send = body
    send(app)
    app.drain()


def take_too_long(app):
    errands.script.errand = lambda ctx, _day, _note: _wait_until_given_up(ctx)
    with app.session() as session:
        slow.enqueue(session)
        slow.enqueue(session)
        session.commit()
    app.drain()


def are_moved_meanwhile(app):
    def body(parcel, _ctx):
        fire(app, Parcel, parcel.id, "drop" if parcel.id == 1 else "bounce")

    parcels.script.send = body
    send(app, 2)
    app.drain()


def are_cancelled_by_a_person(app):
    send(app, 2)
    app.cancel_job(1)
    app.drain()
    app.prune(older_than=timedelta())


def _wait_until_given_up(ctx):
    while not ctx.cancel_requested:
        pass


STORIES = [
    completes,
    is_given_up_and_tried_again,
    has_a_hook_that_fails,
    writes_and_enqueues,
    writes_and_fails,
    goes_on_after_a_read_that_fails,
    goes_on_after_a_savepoint,
    are_atomic,
    share_a_call,
    snooze_and_cancel,
    keeps_a_checkpoint,
    delete_their_record,
    has_a_session_of_its_own,
    take_too_long,
    are_moved_meanwhile,
    are_cancelled_by_a_person,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_jobs_do_in_an_outer_transaction_what_they_do_on_an_engine(engine, story):
    before = rows_of(engine, TABLES)
    with outer_transaction(engine) as connection, app_on(connection) as app:
        story(app)
        bound = rows_of(app.engine, TABLES)
    left = rows_of(engine, TABLES)
    begin_numbers_anew(engine, TABLES)

    with app_on(engine) as app:
        story(app)
        usual = rows_of(engine, TABLES)

    assert left == before
    for table, rows in usual.items():
        assert bound[table] == rows, table
    assert bound["statejobs_jobs"] or story is are_cancelled_by_a_person

"""Each attempt has a context of its own, acts for who asked, and is named by what it moves."""

from contextvars import ContextVar

import pytest
from sqlalchemy import true

from statejobs import acting_as, tenant
from statejobs.acting import current_actor, current_tenant
from tests.support.errands import ask, fetch, fetch_plain, household, plain
from tests.support.errands import reset as reset_errands
from tests.support.errands import script as errands
from tests.support.forms import FORMS, Chunked, Plain, office, script
from tests.support.parcels import Parcel, attempts_of, enqueue, job_of, send
from tests.support.parcels import script as parcel_script
from tests.support.processes import eventually

USER = ContextVar("user", default=None)


@pytest.fixture
def office_app(database_url):
    with office(database_url, queues={"default": 1}) as opened:
        yield opened


@pytest.fixture(params=FORMS, ids=[kind.__name__ for kind in FORMS])
def kind(request):
    return request.param


@pytest.mark.parametrize("by", ["drain", "worker"])
def test_no_attempt_sees_what_another_left_in_its_context(office_app, kind, by):
    seen = []

    def leave_a_trace(records, _session, _ctx):
        seen.append(USER.get())
        USER.set(f"user of {records[0].id}")

    script.body = leave_a_trace
    for _ in range(4):
        enqueue(office_app, kind, "act")
        if by == "drain":
            office_app.drain()
    if by == "worker":
        with office_app.running():
            eventually(
                lambda: office_app.queries.counts()["default"] == {"completed": 4}
            )

    assert set(seen) == {None}
    assert USER.get() is None


def test_a_job_acts_for_nobody_when_nobody_asked(office_app, kind):
    seen = []
    script.body = lambda *_: seen.append((current_actor(), current_tenant()))
    enqueue(office_app, kind, "act")

    with acting_as("whoever drains"), tenant("theirs"):
        office_app.drain()

    assert seen == [(None, None)]


def move_by_flush(session, other):
    session.get_one(Plain, other).stop()


def move_in_bulk(session, _other):
    Plain.stop.bulk(session, where=true(), values={})


def make_another(session, _other):
    session.add(Plain())


@pytest.mark.parametrize("move", [move_by_flush, move_in_bulk, make_another])
def test_history_names_the_job_that_moved_another_record(office_app, kind, move):
    if kind is Plain:
        pytest.skip("it moves other records of its own kind")
    with office_app.session() as session:
        session.add(other := Plain())
        session.commit()
    script.body = lambda _records, session, _ctx: move(session, other.id)
    (key,) = enqueue(office_app, kind, "act")

    assert office_app.drain().counts == {"complete": 1}

    job = job_of(office_app, kind, key)
    named = {
        (row["job_id"], row["attempt"])
        for row in history_after(office_app, other, move)
    }
    assert named == ({(None, None)} if kind is Chunked else {(job.id, 1)})


def history_after(app, other, move):
    """What the action added to the history of plain records."""
    record_id = str(other.id + 1) if move is make_another else str(other.id)
    return app.queries.transitions("Plain", record_id)[
        0 if move is make_another else 1 :
    ]


def test_history_names_the_second_attempt_when_that_was_it(office_app):
    with office_app.session() as session:
        session.add(other := Plain())
        session.commit()
    tries = []

    def fail_once(_records, session, _ctx):
        tries.append(1)
        session.get_one(Plain, other.id).stop()
        session.flush()
        if len(tries) == 1:
            raise ValueError

    script.body = fail_once
    (key,) = enqueue(office_app, FORMS[1], "act")

    office_app.drain()
    office_app.sources.clock.advance(hours=1)
    office_app.drain()

    rows = office_app.queries.transitions("Plain", str(other.id))
    job = job_of(office_app, FORMS[1], key)
    assert [(row["job_id"], row["attempt"]) for row in rows] == [
        (None, None),
        (job.id, 2),
    ]


def test_what_is_done_at_a_discard_is_done_in_the_name_of_the_job(app, clock):
    seen = []

    def tell(_parcel, session, _reason):
        seen.append((current_actor(), USER.get()))
        USER.set("left over")
        session.add(type(_parcel)())

    def fail(_parcel, _ctx):
        raise ValueError

    parcel_script.send, parcel_script.tell = fail, tell
    with acting_as("user:7"):
        keys = send(app, 2)
    for _ in range(3):
        app.drain()
        clock.advance(hours=1)

    assert seen == [("user:7", None)] * 2
    made = app.queries.transitions("Parcel", str(max(keys) + 1))
    assert (made[0]["job_id"], made[0]["actor"]) in {
        (job_of(app, type_of(app), key).id, "user:7") for key in keys
    }
    assert made[0]["attempt"] == 3
    assert USER.get() is None
    assert attempts_of(app, type_of(app), keys[0])


def type_of(app):
    return app.registry.resources["Parcel"].cls


@pytest.fixture
def home(database_url):
    with household(database_url) as opened:
        yield opened
    reset_errands()


def ask_each(home):
    """Ask for a task of every form; return the ids of those that have a session."""
    ids = ask(home), ask(home, fetch, "a")
    ask(home, plain, 1)
    ask(home, fetch_plain, "b")
    return ids


def test_no_attempt_of_a_task_sees_what_another_left(home):
    seen = []

    def leave_a_trace(*_args):
        seen.append((USER.get(), current_actor()))
        USER.set("somebody")

    async def leave_a_trace_too(*args):
        leave_a_trace(*args)

    errands.errand = errands.plain = leave_a_trace
    errands.fetch = leave_a_trace_too
    for _ in range(2):
        ask_each(home)

    with acting_as("whoever drains"):
        home.drain()

    assert seen == [(None, None)] * 8


def test_history_names_the_task_that_made_a_record(home):
    def make(ctx, _day, _note):
        ctx.session.add(Parcel(id=1))

    async def make_too(ctx, _url):
        if ctx is not None:
            ctx.session.add(Parcel(id=2))

    errands.errand, errands.fetch = make, make_too
    ids = ask_each(home)

    home.drain()

    made = [home.queries.transitions("Parcel", key)[0] for key in ("1", "2")]
    assert [(row["name"], row["job_id"], row["attempt"]) for row in made] == [
        ("create", id_, 1) for id_ in ids
    ]

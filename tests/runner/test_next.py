"""An action may run triggers where its record lands, in the commit that ends its job."""

from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import event, select, update

from statejobs import (
    Cancel,
    ChunkContext,
    DefinitionError,
    JobContext,
    JobOutcome,
    JobState,
    Snooze,
    Sources,
    Trigger,
    WorkerSettings,
    acting_as,
    mermaid,
    tenant,
    utcnow,
)
from statejobs.store.tables import jobs
from statejobs.values.graph import Promise
from tests.support.clock import ManualClock
from tests.support.parts import (
    DAY,
    FORMS,
    Atomic,
    Plain,
    Resting,
    S,
    Sheet,
    reset_script,
    script,
    workshop,
)
from tests.support.processes import eventually


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def app(database_url, clock):
    with workshop(database_url, clock=clock) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _forget_script():
    yield
    reset_script()


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__)
def form(request):
    """A resource whose first action has one of the forms that there are."""
    return request.param


def order(app, form, number=1):
    """Commit ordered parts; return their keys."""
    with app.session() as session:
        parts = [form() for _ in range(number)]
        session.add_all(parts)
        for part in parts:
            part.order()
        session.commit()
        return [part.id for part in parts]


def cut(app):
    """Run what waits to be cut, and nothing of what follows; many end together."""
    waiting = [j for j in app.queries.jobs(queue="default") if j.state == "queued"]
    return Counter(ended.outcome for ended in app.step(len(waiting)))


def jobs_of(app, word):
    """The jobs of one trigger, by record."""
    found = [job for job in app.queries.jobs() if job.key.endswith(f".{word}")]
    return {int(job.record_id): job for job in sorted(found, key=lambda job: job.id)}


def states(app, form):
    with app.session() as session:
        return sorted(state.value for state in session.scalars(select(form.state)))


def spoil(part, _ctx):
    """Let the action of every second part fail."""
    if part.id % 2:
        raise ValueError("a knot")


# What is enqueued ----------------------------------------------------------------------------


def test_landing_enqueues_the_next_jobs(app, form, clock):
    (key,) = order(app, form)
    clock.advance(minutes=1)

    assert cut(app) == {"complete": 1}

    paint, inspect = jobs_of(app, "paint")[key], jobs_of(app, "inspect")[key]
    assert (paint.state, paint.run_at) == (JobState.QUEUED, clock.now())
    assert (inspect.state, inspect.run_at) == (JobState.SCHEDULED, clock.now() + DAY)
    assert states(app, form) == ["cut"]


def test_a_drain_goes_on_with_them(app, form):
    order(app, form, 3)

    assert app.drain().counts == {"complete": 6}
    assert states(app, form) == ["painted"] * 3


def test_many_that_end_together_enqueue_for_each(app, form):
    keys = order(app, form, 12)

    assert cut(app) == {"complete": 12}

    assert list(jobs_of(app, "paint")) == keys
    assert list(jobs_of(app, "inspect")) == keys


def test_an_action_that_writes_through_its_session_enqueues_them_as_well(app, form):
    script.cut = lambda part, ctx: ctx.session.add(Plain(note=f"of {part.id}"))
    keys = order(app, form, 3)

    assert cut(app) == {"complete": 3}

    assert list(jobs_of(app, "paint")) == keys


def test_they_have_actor_and_tenant_of_the_job(app, form):
    with acting_as("ada"), tenant("acme"):
        (key,) = order(app, form)

    cut(app)

    paint = jobs_of(app, "paint")[key]
    assert (paint.actor, paint.tenant) == ("ada", "acme")


def test_their_arguments_are_made_of_the_record_as_the_action_left_it(app, form):
    def note(part, _ctx):
        part.note = "x" * (part.id + 1)

    script.cut = note
    script.args = lambda part: {"coats": len(part.note)}
    keys = order(app, form, 2)

    cut(app)

    found = [job.args for job in jobs_of(app, "paint").values()]
    assert found == [f'{{"coats":{key + 1}}}' for key in keys]


def test_arguments_that_cannot_be_made_fail_the_attempt(app, form):
    def refuse(part):
        raise ValueError(f"no colour for {part.id}")

    script.args = refuse
    (key,) = order(app, form)

    assert cut(app) == {"fail": 1}

    assert jobs_of(app, "paint") == {}
    assert states(app, form) == ["new"]
    assert f"no colour for {key}" in jobs_of(app, "cut")[key].reason


def test_arguments_of_one_record_that_cannot_be_made_fail_its_attempt_alone(app, form):
    def refuse_odd(part):
        if part.id % 2:
            raise ValueError("no colour")
        return {}

    script.args = refuse_odd
    keys = order(app, form, 4)

    assert cut(app) == {"complete": 2, "fail": 2}

    assert list(jobs_of(app, "paint")) == [key for key in keys if key % 2 == 0]


@pytest.mark.parametrize(
    "raised",
    [ValueError("no"), Snooze(minutes=5), Cancel("no")],
    ids=["error", "snooze", "cancel"],
)
def test_an_attempt_that_does_not_land_enqueues_nothing(app, form, raised):
    def refuse(_part, _ctx):
        raise raised

    script.cut = refuse
    order(app, form, 2)

    cut(app)

    assert jobs_of(app, "paint") == jobs_of(app, "inspect") == {}


def test_only_those_that_land_enqueue(app, form):
    script.cut = spoil
    keys = order(app, form, 6)

    assert cut(app) == {"complete": 3, "fail": 3}

    assert list(jobs_of(app, "paint")) == [key for key in keys if key % 2 == 0]


def test_a_record_that_was_moved_away_meanwhile_enqueues_nothing(app):
    (key,) = order(app, Resting)
    (claim,) = app.runner().claim("default", limit=1)
    with app.session() as session:
        session.get_one(Resting, key).scrap()
        session.commit()

    app.runner().run(claim)

    assert jobs_of(app, "cut")[key].state is JobState.CANCELLED
    assert jobs_of(app, "paint") == jobs_of(app, "inspect") == {}


def test_a_job_that_waits_under_a_former_key_goes_on(app, form):
    (key,) = order(app, form)
    name = form.__name__.lower()
    with app.engine.begin() as connection:
        connection.execute(
            update(jobs).values(
                key=f"{name}.dye", dedupe_key=f"{name}.dye:{key}", queue="paint"
            )
        )
    with app.session() as session:
        form.do_cut.enqueue(session, session.get_one(form, key))
        session.commit()

    cut(app)

    (dye,) = jobs_of(app, "dye").values()
    assert (dye.state, dye.coalesced) == (JobState.QUEUED, 1)
    assert jobs_of(app, "paint") == {}


def test_a_job_that_runs_again_enqueues_each_time(app):
    (key,) = order(app, Plain)
    (claim,) = app.runner().claim("default", limit=1)
    with app.session() as session:
        Plain.do_cut.enqueue(session, session.get_one(Plain, key))
        session.commit()

    app.runner().run(claim)

    assert jobs_of(app, "cut")[key].state is JobState.COMPLETED
    assert jobs_of(app, "paint")[key].state is JobState.QUEUED


# What they cost -------------------------------------------------------------------------------


def test_many_that_end_together_need_no_more_statements(app, form):
    sent = []
    event.listen(
        app.engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_rest: sent.append(statement),
    )
    counts = []
    for number in (3, 12):
        order(app, form, number)
        del sent[:]
        assert cut(app) == {"complete": number}
        counts.append(sum("INSERT INTO statejobs_jobs" in each for each in sent))

    assert counts == [1, 1]


# When the state is left -----------------------------------------------------------------------


def test_an_action_that_leaves_the_state_cancels_what_was_for_later(app, form):
    (key,) = order(app, form)

    app.drain()

    inspect = jobs_of(app, "inspect")[key]
    assert (inspect.outcome, inspect.reason) == (JobOutcome.LEFT, "left by do_paint")


def test_many_that_leave_the_state_together_cancel_theirs(app):
    keys = order(app, Plain, 7)

    assert app.drain().counts == {"complete": 14}

    left = jobs_of(app, "inspect")
    assert [left[key].state for key in keys] == [JobState.CANCELLED] * 7


def test_an_attempt_that_comes_back_cancels_nothing(app):
    def refuse(_part, _ctx):
        raise ValueError("dry")

    script.paint = refuse
    (key,) = order(app, Plain)

    app.drain()

    assert jobs_of(app, "paint")[key].state is JobState.FAILED
    assert jobs_of(app, "inspect")[key].state is JobState.SCHEDULED


def test_an_action_that_gives_up_cancels_what_was_for_later(app):
    def refuse(_part, _ctx):
        raise Cancel("no paint")

    script.paint = refuse
    (key,) = order(app, Plain)

    app.drain()

    inspect = jobs_of(app, "inspect")[key]
    assert (inspect.outcome, inspect.reason) == (JobOutcome.LEFT, "left by do_paint")


def test_a_person_who_cancels_what_waits_cancels_what_was_for_later(app):
    (key,) = order(app, Plain)
    cut(app)

    app.cancel_job(jobs_of(app, "paint")[key].id, reason="out of paint")

    assert states(app, Plain) == ["broken"]
    assert jobs_of(app, "inspect")[key].state is JobState.CANCELLED


def test_it_runs_when_nobody_left(app, clock):
    order(app, Plain)
    cut(app)
    clock.advance(DAY)
    with app.engine.begin() as connection:
        connection.execute(
            update(jobs).where(jobs.c.key == "plain.paint").values(queue="other")
        )

    assert app.drain(queues=["default"]).counts == {"complete": 1}
    assert states(app, Plain) == ["broken"]


# Elsewhere ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [Plain, Resting, Atomic], ids=lambda one: one.__name__)
def test_called_directly_it_enqueues_with_the_flush(app, form):
    order(app, form)
    (waiting,) = app.queries.jobs()
    with app.session() as session:
        part = session.scalars(select(form)).one()
        part.do_cut(JobContext(session=session, job=waiting, now=utcnow()))
        session.commit()

    assert len(jobs_of(app, "paint")) == len(jobs_of(app, "inspect")) == 1


def test_a_chunk_that_is_called_directly_enqueues_for_those_that_it_keeps(app):
    keys = order(app, Sheet, 2)
    waiting = list(jobs_of(app, "cut").values())
    script.cut = lambda sheet, ctx: sheet.id == keys[0] and ctx.fail(sheet, "a knot")
    with app.session() as session:
        sheets = session.scalars(select(Sheet).order_by(Sheet.id)).all()
        ctx = ChunkContext(session=session, records=sheets, jobs=waiting, now=utcnow())
        Sheet.do_cut(sheets, ctx)
        session.commit()

    assert list(jobs_of(app, "paint")) == [keys[1]]


def test_those_of_a_chunk_that_fail_enqueue_nothing(app):
    keys = order(app, Sheet, 4)
    script.cut = lambda sheet, ctx: sheet.id % 2 and ctx.fail(sheet, "a knot")

    assert cut(app) == {"complete": 2, "fail": 2}

    assert list(jobs_of(app, "paint")) == [key for key in keys if key % 2 == 0]


def test_the_graph_has_them():
    machine = Plain.__machine__

    assert machine.edge("do_cut.complete").runs == (
        Promise("plain.paint"),
        Promise("plain.inspect", DAY),
    )
    assert machine.promised_by("cut") == ("plain.paint", "plain.inspect")
    assert (
        "cutting --> cut : complete do_cut ⚙ plain.paint ⚙ plain.inspect after 24 h\n"
        in mermaid(machine)
    )


def test_a_worker_is_woken_by_what_follows(database_url):
    """With a poll of an hour, only a hint lets the second job start."""
    settings = WorkerSettings(poll=timedelta(hours=1))
    with workshop(database_url, sources=Sources(), settings=settings) as app:
        order(app, Plain, 3)
        with app.running():
            eventually(lambda: states(app, Plain) == ["painted"] * 3)


def test_a_record_that_is_gone_runs_nothing():
    drop = Trigger.on_demand("part.drop")

    with pytest.raises(DefinitionError) as refused:
        drop.action(S.NEW, deletes=True, run_trigger=Plain.paint)

    assert str(refused.value) == (
        "action of trigger 'part.drop': it has a run_trigger, and deletes its record\n"
        "  why: a job runs on a record, and this one is gone\n"
        "  fix: leave out run_trigger; work without a record is a task, which the method "
        "enqueues through ctx.session"
    )

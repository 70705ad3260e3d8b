"""Many jobs in hand: which are meant, and what becomes of each of them."""

import asyncio
import threading
from datetime import timedelta
from enum import StrEnum

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    Handled,
    JobContext,
    JobOutcome,
    JobState,
    NotFoundError,
    StatefulResource,
    StateJobs,
    TransitionRefusedError,
    Trigger,
    Unhandled,
    WrongValueError,
    acting_as,
    state_column,
    transition,
)
from statejobs.people import retrying
from statejobs.store.tables import attempts, jobs
from tests.support.clock import manual_sources
from tests.support.errands import DAY, ask, errand, fetch, plain
from tests.support.errands import script as errands
from tests.support.parcels import (
    Letter,
    Parcel,
    close_app,
    enqueue,
    fire,
    job_of,
    post_office,
    script,
    send,
    state_of,
    steps,
)

LATER = timedelta(hours=1)


def fail(*_args):
    raise ValueError("no")


def discard(app, clock, number=1):
    """Commit *number* parcels whose jobs have given up; return their keys."""
    script.send = fail
    keys = send(app, number)
    for _ in range(3):
        app.drain()
        clock.advance(minutes=1)
    script.send = lambda *_args: None
    return keys


def claim(app):
    """Claim one job, of which nobody hears again."""
    (claimed,) = app.runner().claim("default", limit=1)
    return claimed.job


def states(app, kind, keys):
    return [
        (job_of(app, kind, key).state.value, state_of(app, kind, key)) for key in keys
    ]


def counted(app, table=jobs):
    with app.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table))


# Which are meant


@pytest.mark.parametrize(
    ("filters", "number"),
    [
        ({}, 5),
        ({"key": "errand.run"}, 2),
        ({"queue": "default", "key": "errand.plain"}, 1),
        ({"state": "queued"}, 4),
        ({"state": [JobState.FAILED, "queued"]}, 5),
        ({"outcome": "cancelled"}, 0),
        ({"tag": "home"}, 2),
        ({"tag": "hom"}, 0),
        ({"tag": "HOME"}, 0),
        ({"error": "ValueError"}, 1),
        ({"error": "KeyError"}, 0),
        ({"resource": Parcel}, 1),
        ({"resource": "parcel", "record": 1}, 1),
        ({"record": "2", "resource": "Parcel"}, 0),
        ({"older_than": timedelta(minutes=5)}, 1),
        ({"older_than": timedelta.max}, 0),
        ({"older_than": timedelta(minutes=5), "tag": "home"}, 0),
    ],
)
def test_every_filter_narrows_what_is_meant(home, clock, filters, number):
    errands.plain = fail
    ask(home, plain, 1)
    home.step()
    clock.advance(minutes=10)
    ask(home, errand)
    ask(home, errand)
    ask(home, fetch, "https://a.example")
    send(home)

    selected = home.select(**filters)

    assert selected.count() == number
    assert len(selected.sample(10)) == number


def test_jobs_are_meant_by_how_they_ended(app, clock):
    lost = job_of(app, Parcel, *discard(app, clock))
    left, _ = send(app, 2)
    fire(app, Parcel, left, "drop")

    def meant(outcome):
        return {job.id for job in app.select(outcome=outcome).sample()}

    assert meant("left") == {job_of(app, Parcel, left).id}
    assert meant([JobOutcome.LEFT, "failed"]) == {
        lost.id,
        job_of(app, Parcel, left).id,
    }
    assert app.select(outcome="failed").retry() == Handled(done=1)
    assert meant("failed") == set()


def test_a_sample_is_of_the_newest(home):
    ids = [ask(home) for _ in range(7)]

    assert [job.id for job in home.select().sample()] == ids[:1:-1]
    assert [job.id for job in home.select().sample(1)] == ids[-1:]


def test_an_error_is_the_last_one(home, clock):
    errands.plain = fail
    job_id = ask(home, plain, 1)
    home.drain()
    clock.advance(minutes=1)

    def fail_otherwise(_number):
        raise KeyError

    errands.plain = fail_otherwise
    home.drain()

    assert [job.id for job in home.select(error="KeyError").sample()] == [job_id]
    assert home.select(error="ValueError").count() == 0


def test_how_old_a_job_is_counts_from_its_end(home, clock):
    ask(home)
    clock.advance(hours=1)
    home.drain()
    clock.advance(minutes=10)

    assert home.select(older_than=timedelta(minutes=11)).count() == 0
    assert home.select(older_than=timedelta(minutes=9)).count() == 1


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"state": "discardd"}, "no job state 'discardd'; did you mean 'discarded'?"),
        ({"outcome": "stal"}, "no job outcome 'stal'; did you mean 'stale'?"),
        ({"queue": "defalt"}, "no queue 'defalt'; did you mean 'default'?"),
        ({"key": "errand.rn"}, "no key 'errand.rn'; did you mean 'errand.run'?"),
        ({"resource": "Parcl"}, "no resource 'Parcl'; did you mean 'Parcel'?"),
    ],
)
def test_a_name_that_nobody_knows_is_refused(home, filters, says):
    for act in ("count", "sample", "retry", "cancel", "delete"):
        with pytest.raises(NotFoundError) as caught:
            getattr(home.select(**filters), act)()

        assert str(caught.value) == says


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        (
            {"older_than": 30},
            "select(older_than=…) must be a timedelta, not 30; say timedelta(seconds=30)",
        ),
        (
            {"state": 5},
            'select(state=…) takes a collection, not 5 alone; say state="discarded"',
        ),
        (
            {"outcome": 5},
            'select(outcome=…) takes a collection, not 5 alone; say outcome="stale"',
        ),
        ({"tag": ["a"]}, "select(tag=…) must be text, not ['a']; say 'nightly'"),
        (
            {"error": ValueError},
            "select(error=…) must be text, not <class 'ValueError'>; say 'TimeoutError'",
        ),
        ({"queue": 1}, "select(queue=…) must be text, not 1; say 'default'"),
    ],
)
def test_a_filter_of_the_wrong_kind_is_refused(home, filters, says):
    with pytest.raises(WrongValueError) as caught:
        home.select(**filters)

    assert str(caught.value) == says


# Retry


def test_discarded_jobs_go_on_through_the_machine_of_their_records(app, clock):
    keys = discard(app, clock, 3)

    with acting_as("ada"):
        handled = app.select(state="discarded").retry()

    assert handled == Handled(done=3)
    assert states(app, Parcel, keys) == [("queued", "packed")] * 3
    last = app.queries.transitions("Parcel", keys[0])[-1]
    assert (last["name"], last["actor"]) == ("find", "ada")
    assert job_of(app, Parcel, keys[0]).actor is None
    assert app.drain().counts == {"complete": 3}


def test_tasks_and_waiting_jobs_are_due_at_once(home, clock):
    errands.plain = fail
    given_up = ask(home, plain, 1)
    for _ in range(3):
        home.drain()
        clock.advance(minutes=1)
    with home.session() as session:
        errand.options(delay=LATER).enqueue(session, DAY)
        session.commit()
    errands.plain = lambda _number: None

    assert home.select().retry() == Handled(done=2)

    assert home.queries.job(given_up).max_attempts == 6
    assert home.drain().counts == {"complete": 2}


def test_what_cannot_go_on_is_counted_by_its_reason(app, clock):
    script.seal = fail
    torn = enqueue(app, Letter, "press", 3)
    for _ in range(2):
        app.drain()
        clock.advance(minutes=1)
    lost = discard(app, clock, 2)
    send(app)
    running = claim(app)

    handled = app.select().retry()

    assert handled == Handled(
        done=2,
        refused=(
            Unhandled(
                why="it is processing: wait for its end, or cancel it.",
                count=1,
                job_id=running.id,
            ),
            Unhandled(
                why="no transition from 'torn' runs 'letter.seal'.",
                count=3,
                job_id=job_of(app, Letter, torn[0]).id,
            ),
        ),
    )
    assert handled.refused_count == 4
    assert handled.total == 6
    assert states(app, Parcel, lost) == [("queued", "packed")] * 2


def test_a_record_that_is_gone_holds_up_none_of_the_others(app, clock):
    keys = discard(app, clock, 3)
    with app.engine.begin() as connection:
        connection.execute(Parcel.__table__.delete().where(Parcel.id == keys[1]))

    handled = app.select(state=JobState.DISCARDED).retry()

    assert handled.done == 2
    assert [one.why for one in handled.refused] == ["its record is gone"]


def test_a_newer_job_of_the_same_record_keeps_the_older_one_where_it_is(app):
    (key,) = enqueue(app, Letter, "put_on_scale")
    app.drain()
    with app.session() as session:
        Letter.put_on_scale.enqueue(session, session.get_one(Letter, key))
        session.commit()
    enqueue(app, Letter, "put_on_scale")
    app.drain()
    with app.session() as session:
        Letter.put_on_scale.enqueue(session, session.get_one(Letter, key))
        session.commit()

    handled = app.select(state="completed").retry()

    assert (handled.done, handled.refused_count) == (1, 2)
    assert {one.why for one in handled.refused} == {"a newer job serves its record"}


# Bodies that raise


class S(StrEnum):
    WANTED = "wanted"
    MADE = "made"
    BROKEN = "broken"


class Base(DeclarativeBase): ...


class Toy(StatefulResource, Base):
    """Its way back has a body and a guard; one of its triggers has no failed state."""

    __tablename__ = "toys"

    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None]
    make = Trigger.on_demand("toy.make", max_attempts=1)
    state: Mapped[S] = state_column(S, initial=S.WANTED, run_trigger=make)

    @make.action(S.WANTED, S.MADE, failed=S.BROKEN)
    def make_it(self, ctx: JobContext) -> None:
        raise ValueError("no")

    def has_parts(self) -> bool:
        """There are no parts."""
        return self.note != "no parts"

    @transition(S.BROKEN, S.WANTED, run_trigger=make, guard=has_parts)
    def mend(self) -> None:
        if self.note == "stuck screw":
            self.note = "half mended"
            raise RuntimeError("the screw is stuck")
        self.note = "mended"


class Gift(StatefulResource, Base):
    """Waits for a job whose action has no failed state."""

    __tablename__ = "gifts"

    id: Mapped[int] = mapped_column(primary_key=True)
    wrap = Trigger.on_demand("gift.wrap", max_attempts=1)
    state: Mapped[S] = state_column(S, initial=S.WANTED, run_trigger=wrap)

    @wrap.action(S.WANTED, S.MADE)
    def wrap_it(self, ctx: JobContext) -> None:
        raise ValueError("no")


@pytest.fixture
def toys(database_url, clock):
    app = StateJobs(
        database_url,
        domains=[Domain("toys", resources=[Toy, Gift])],
        sources=manual_sources(clock),
    )
    app.create_all()
    yield app
    close_app(app)


def make(app, kind, *notes):
    """Commit records, whose jobs wait."""
    with app.session() as session:
        session.add_all([kind(note=note) if kind is Toy else kind() for note in notes])
        session.commit()


def toys_now(app):
    with app.session() as session:
        return [
            (toy.state.value, toy.note)
            for toy in session.scalars(select(Toy).order_by(Toy.id))
        ]


def test_a_guard_and_a_body_that_raises_hold_up_none_of_the_others(toys):
    make(toys, Toy, "a", "stuck screw", "no parts", "b", "c")
    toys.drain()

    handled = toys.select(state="discarded").retry()

    assert handled.done == 3
    assert {(one.why, one.count) for one in handled.refused} == {
        ("There are no parts.", 1),
        ("RuntimeError: the screw is stuck", 1),
    }
    assert toys_now(toys) == [
        ("wanted", "mended"),
        ("broken", "stuck screw"),
        ("broken", "no parts"),
        ("wanted", "mended"),
        ("wanted", "mended"),
    ]


# Cancel


def test_waiting_jobs_are_cancelled_running_ones_asked_and_ended_ones_refused(
    app, clock
):
    ended = job_of(app, Parcel, *discard(app, clock))
    keys = send(app, 3)
    running = claim(app)
    with acting_as("ada"):
        handled = app.select(key="parcel.send").cancel("no need")

    assert handled == Handled(
        done=2,
        asked=1,
        refused=(
            Unhandled(
                why="it is discarded: there is nothing left to cancel.",
                count=1,
                job_id=ended.id,
            ),
        ),
    )
    assert states(app, Parcel, keys) == [
        ("processing", "sending"),
        ("cancelled", "lost"),
        ("cancelled", "lost"),
    ]
    assert app.queries.job(running.id).cancel_requested
    assert job_of(app, Parcel, keys[1]).outcome is JobOutcome.CANCELLED
    last = app.queries.transitions("Parcel", keys[1])[-1]
    assert (last["actor"], last["reason"]) == ("ada", "no need")
    assert job_of(app, Parcel, keys[1]).reason == "no need (asked by ada)"


def test_two_jobs_of_one_record_are_both_cancelled(app):
    (key,) = enqueue(app, Letter, "put_on_scale")
    with app.session() as session:
        Letter.press.enqueue(session, session.get_one(Letter, key))
        session.commit()

    assert app.select(resource="Letter").cancel() == Handled(done=2)
    assert state_of(app, Letter, key) == "torn"


# Delete


def test_ended_jobs_are_deleted_with_their_attempts(app, clock):
    discard(app, clock, 2)
    send(app)
    app.drain()
    assert counted(app, attempts) == 6

    assert app.select(state=["completed", "discarded"]).delete() == Handled(done=3)

    assert (counted(app), counted(app, attempts)) == (0, 0)


def test_a_running_job_is_not_deleted(app):
    send(app)
    job = claim(app)

    handled = app.select().delete()

    assert [one.why for one in handled.refused] == [
        "it is processing: cancel it, and delete it once it has ended."
    ]
    with pytest.raises(TransitionRefusedError):
        app.delete_job(job.id)
    assert counted(app) == 1


def test_a_record_that_waits_for_a_deleted_job_goes_to_its_failed_state(toys):
    make(toys, Toy, "a", "b")

    with acting_as("ada"):
        assert toys.select(key="toy.make").delete() == Handled(done=2)

    assert toys_now(toys) == [("broken", "a"), ("broken", "b")]
    last = toys.queries.transitions("Toy", 1)[-1]
    assert (last["actor"], last["reason"]) == ("ada", "its job was deleted")


def test_a_job_that_a_record_waits_for_without_a_failed_state_is_not_deleted(toys):
    make(toys, Gift, None)

    handled = toys.select(resource=Gift).delete()

    assert [one.why for one in handled.refused] == [
        "its record waits in 'wanted' for it, and 'wrap_it' has no failed state: move the record."
    ]
    toys.drain()
    handled = toys.select(resource=Gift, state="discarded").delete()
    assert [one.why for one in handled.refused] == [
        "its record still rests in 'wanted' for it: retry it, or move the record."
    ]


def test_a_job_that_no_record_waits_for_is_deleted(app):
    (key,) = enqueue(app, Letter, "put_on_scale")

    app.delete_job(job_of(app, Letter, key).id)

    assert (counted(app), state_of(app, Letter, key)) == (0, "open")


def test_a_job_of_a_record_that_another_app_declares_is_not_deleted(app, toys):
    make(toys, Toy, "a")

    handled = app.select().delete()

    assert [one.why for one in handled.refused] == [
        "nothing in this app declares 'toy.make': its record may wait for it"
    ]


def test_the_job_of_a_stuck_record_is_not_deleted(app):
    (key,) = send(app)
    job = claim(app)
    with app.engine.begin() as connection:
        connection.execute(
            update(jobs).values(
                state="discarded",
                reason="stuck: not today",
                finished_at=app.sources.clock.now(),
                owner=None,
                token=None,
                lease_until=None,
            )
        )

    handled = app.select().delete()

    assert [one.why for one in handled.refused] == [
        "its record is stuck in 'sending': retry the job."
    ]
    assert app.select().retry() == Handled(done=1)
    assert job_of(app, Parcel, key).id == job.id
    assert steps(app, Parcel, key)[-1] == ("rescue", "sending", "packed")


# Edit


def test_waiting_jobs_are_put_off_hurried_and_moved(home):
    ids = [ask(home), ask(home)]
    later = home.sources.clock.now() + LATER

    assert home.select().edit(run_at=later, priority=0, queue="default") == Handled(
        done=2
    )

    for job_id in ids:
        job = home.queries.job(job_id)
        assert (job.state, job.run_at, job.priority) == (JobState.SCHEDULED, later, 0)
    assert home.select().edit(run_at=home.sources.clock.now()).done == 2
    assert home.drain().counts == {"complete": 2}


def test_a_failed_job_waits_on_as_failed(home):
    errands.plain = fail
    job_id = ask(home, plain, 1)
    home.drain()

    home.edit_job(job_id, run_at=home.sources.clock.now() + LATER)

    assert home.queries.job(job_id).state is JobState.FAILED


def test_what_runs_or_has_ended_is_not_changed(home):
    ended = ask(home)
    home.drain()
    ask(home)
    running = claim(home)

    handled = home.select().edit(priority=1)

    assert handled == Handled(
        refused=(
            Unhandled(why="it is completed: retry it instead.", count=1, job_id=ended),
            Unhandled(
                why="it is processing: what runs is no longer changed.",
                count=1,
                job_id=running.id,
            ),
        )
    )


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        (
            {},
            WrongValueError,
            "edit() is told nothing to change; give run_at=, priority= or queue=",
        ),
        (
            {"priority": 10},
            WrongValueError,
            "priority 10 is not between 0 (first) and 9 (last); give one of these, or leave it "
            "out",
        ),
        (
            {"run_at": 5},
            WrongValueError,
            "edit(run_at=…) must be a datetime, not 5; say run_at=datetime.now(UTC) + "
            "timedelta(hours=1)",
        ),
        (
            {"queue": "defalt"},
            NotFoundError,
            "no queue 'defalt'; did you mean 'default'?",
        ),
    ],
)
def test_a_wrong_change_is_refused_before_anything_is_changed(
    home, changes, error, says
):
    ask(home)

    with pytest.raises(error) as caught:
        home.select().edit(**changes)

    assert str(caught.value) == says


def test_a_job_in_a_state_of_a_newer_version_is_left_to_that(home):
    ask(home)
    with home.engine.begin() as connection:
        connection.execute(update(jobs).values(state="paused"))
    selected = home.select(key="errand.run")

    for handled in (
        selected.retry(),
        selected.cancel(),
        selected.delete(),
        selected.edit(priority=1),
    ):
        assert [one.why for one in handled.refused] == [
            "this version of statejobs does not know its state, 'paused'"
        ]
    assert counted(home) == 1


# Batches


def test_batches_commit_by_themselves_and_what_is_interrupted_goes_on(home):
    with home.session() as session:
        plain.enqueue_many(session, [{"number": n} for n in range(1100)])
        session.commit()
    seen = []

    def interrupt(handled):
        seen.append(handled.done)
        if len(seen) == 2:
            raise KeyboardInterrupt

    waiting = home.select(key="errand.plain", state="queued")
    with pytest.raises(KeyboardInterrupt):
        waiting.cancel(on_batch=interrupt)

    assert seen == [500, 1000]
    assert waiting.count() == 100
    assert waiting.cancel() == Handled(done=100)


def test_what_others_hold_is_counted_and_waited_for_by_nobody(postgres_url, clock):
    with post_office(postgres_url, clock=clock) as app:
        held_record, held_job, free = send(app, 3)
        job = job_of(app, Parcel, held_job)
        with app.engine.begin() as other:
            other.execute(
                select(Parcel.id).where(Parcel.id == held_record).with_for_update()
            )
            other.execute(
                select(jobs.c.id).where(jobs.c.id == job.id).with_for_update()
            )

            assert app.select().cancel() == Handled(done=1, locked=2)
            assert app.select(state="queued").retry() == Handled(locked=2)
            assert app.select(state="queued").delete() == Handled(locked=2)
            assert app.select(state="queued").edit(priority=1) == Handled(
                done=1, locked=1
            )
        assert state_of(app, Parcel, free) == "lost"
        assert app.select(state="queued").cancel() == Handled(done=2)


def test_a_batch_that_is_open_holds_up_no_claim_of_another_queue(
    postgres_url, clock, monkeypatch
):
    def claim_meanwhile(connection, fired):
        claimed.extend(app.runner().claim("elsewhere", limit=5))
        restore(connection, fired)

    claimed, restore = [], retrying.restore_actors
    monkeypatch.setattr(retrying, "restore_actors", claim_meanwhile)
    with post_office(postgres_url, clock=clock) as app:
        discard(app, clock, 20)
        others = send(app, 3)
        with app.engine.begin() as connection:
            waiting = jobs.c.record_id.in_([str(key) for key in others])
            connection.execute(update(jobs).where(waiting).values(queue="elsewhere"))

        assert app.select(state="discarded").retry().done == 20

        assert len(claimed) == 3


def test_two_people_who_retry_the_same_jobs_do_so_once(app, clock):
    keys = discard(app, clock, 40)
    done = []

    def retry():
        done.append(app.select(state="discarded").retry())

    both = [threading.Thread(target=retry) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()

    assert sum(handled.done for handled in done) == 40
    assert states(app, Parcel, keys) == [("queued", "packed")] * 40
    assert {len(steps(app, Parcel, key)) for key in keys} == {
        len(steps(app, Parcel, keys[0]))
    }


def test_everything_has_a_form_for_asyncio(home):
    async def act():
        ask(home)
        selected = home.select(state="queued")

        assert await selected.count_async() == 1
        assert len(await selected.sample_async()) == 1
        assert await selected.retry_async() == Handled(done=1)
        assert await selected.edit_async(priority=1) == Handled(done=1)
        assert await selected.cancel_async("why") == Handled(done=1)
        assert await home.select().delete_async() == Handled(done=1)
        job_id = ask(home)
        assert await home.edit_job_async(job_id, priority=2) is JobState.QUEUED
        await home.delete_job_async(job_id)

    asyncio.run(act())


def test_fired_by_hand_and_by_many_is_the_same(app, clock):
    one, other = discard(app, clock, 2)

    app.retry_job(job_of(app, Parcel, one).id)
    app.select(record=other, resource=Parcel).retry()

    assert steps(app, Parcel, one) == steps(app, Parcel, other)
    fire(app, Parcel, one, "drop")

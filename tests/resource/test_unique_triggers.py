"""A trigger that is `Unique` for a period: at most one job for each record and period."""

from datetime import timedelta
from enum import StrEnum

import pytest
from sqlalchemy import insert, select, true
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    BulkResult,
    DefinitionError,
    DuplicateJobError,
    Enqueued,
    JobContext,
    JobState,
    StatefulResource,
    Trigger,
    Unique,
    state_column,
    task,
    transition,
)
from tests.support.clock import NOON
from tests.support.digests import (
    HOUR,
    UserState,
    set_job,
    stored,
    unique_app,
    users,
)

S = JobState
INSERTED, DUPLICATE = Enqueued.INSERTED, Enqueued.DUPLICATE
HOURLY = Unique(period=HOUR)


def new_users(app, cls, count=1):
    with app.session() as session:
        made = [cls() for _ in range(count)]
        session.add_all(made)
        session.flush()
        for user in made:
            user.activate()
        session.commit()
        return [user.id for user in made]


def nudge(app, cls, user_id):
    """Fire a transition that runs the trigger."""
    with app.session() as session:
        session.get_one(cls, user_id).nudge()
        session.commit()


def remind(app, cls, user_id, *args):
    """Ask for the action by name."""
    with app.session() as session:
        user = session.get_one(cls, user_id)
        result = cls.remind_user.enqueue(session, user, *args)
        session.commit()
    return result


def states(app):
    return [job.state for job in stored(app)]


def test_it_runs_once_in_a_period_however_it_is_asked_for(database_url):
    with users(database_url, HOURLY) as (app, cls):
        [user_id] = new_users(app, cls)
        nudge(app, cls, user_id)
        app.drain()
        nudge(app, cls, user_id)
        [job] = stored(app)
        again = remind(app, cls, user_id)
        app.sources.clock.advance(hours=1)
        nudge(app, cls, user_id)

        assert (again.outcome, again.job_id) == (DUPLICATE, job.id)
        assert states(app) == [S.COMPLETED, S.QUEUED]
        assert job.unique_until == NOON + HOUR


def test_others_in_the_same_flush_have_their_own_rules(database_url):
    with users(database_url, HOURLY) as (app, cls):
        [first] = new_users(app, cls)
        app.drain()
        with app.session() as session:
            fresh = cls()
            session.add(fresh)
            session.flush()
            fresh.welcome()
            session.get_one(cls, first).nudge()
            session.commit()

        assert [(job.key, job.state) for job in stored(app)] == [
            ("user.remind", S.COMPLETED),
            ("user.greet", S.QUEUED),
        ]


def test_a_waiting_job_is_kept_as_it_was(database_url):
    with users(database_url, HOURLY) as (app, cls):
        [user_id] = new_users(app, cls)

        again = remind(app, cls, user_id, "now")

        [job] = stored(app)
        assert (again.outcome, job.args, job.coalesced) == (DUPLICATE, "{}", 0)


def test_it_replaces_what_it_names(database_url):
    unique = Unique(period=HOUR, on_conflict="replace", replace=["args"])
    with users(database_url, unique) as (app, cls):
        [user_id] = new_users(app, cls)

        again = remind(app, cls, user_id, "now")

        [job] = stored(app)
        assert (again.outcome, job.args) == (Enqueued.REPLACED, '{"text":"now"}')


def test_it_raises_for_whoever_asks_by_name(database_url):
    unique = Unique(period=HOUR, on_conflict="raise")

    class Base(DeclarativeBase): ...

    class Plain(StatefulResource, Base):
        __tablename__ = "plains"
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[UserState] = state_column(UserState, initial=UserState.NEW)
        remind = Trigger.on_demand("plain.remind", unique=unique)

        @remind.action(UserState.NEW, UserState.NEW)
        def remind_user(self, ctx: JobContext, text: str = "") -> None: ...

        @transition(UserState.NEW, UserState.GONE)
        def go(self) -> None: ...

    with unique_app(database_url, resources=[Plain]) as app:
        with app.session() as session:
            plains = [Plain(), Plain(), Plain()]
            session.add_all(plains)
            session.flush()
            first = Plain.remind_user.enqueue(session, plains[1])
            with pytest.raises(DuplicateJobError) as raised:
                Plain.remind_user.enqueue_many(session, plains)
            session.commit()

        assert raised.value.job_id == first.job_id
        assert [job.id for job in stored(app)] == [first.job_id]


def test_a_running_job_runs_again(database_url):
    unique = Unique(period=HOUR, on_conflict="run_again")
    with users(database_url, unique) as (app, cls):
        [user_id] = new_users(app, cls)
        asked = []

        def run(_user):
            if not asked:
                asked.append(remind(app, cls, user_id, "again"))

        cls.script.run = run

        assert app.drain().counts == {"complete": 2}
        assert asked[0].outcome is Enqueued.RUN_AGAIN
        assert remind(app, cls, user_id).outcome is DUPLICATE


@pytest.mark.parametrize("on_conflict", ["skip", "run_again"])
@pytest.mark.parametrize("state", [S.CANCELLED, S.DISCARDED])
def test_the_job_that_gave_up_goes_on(database_url, on_conflict, state):
    unique = Unique(period=HOUR, on_conflict=on_conflict)
    with users(database_url, unique) as (app, cls):
        [user_id] = new_users(app, cls)
        [before] = stored(app)
        set_job(app, before.id, state=state.value, attempt=5)
        app.sources.clock.advance(minutes=30)

        again = remind(app, cls, user_id)

        [job] = stored(app)
        assert (again.outcome, again.job_id) == (Enqueued.RETRIED, before.id)
        assert (job.state, job.attempt, job.max_attempts) == (S.QUEUED, 5, 10)
        assert job.idempotency_key == before.idempotency_key
        assert job.unique_until == NOON + HOUR + timedelta(minutes=30)


def test_another_record_with_the_key_is_not_kept_waiting(database_url):
    with users(database_url, HOURLY) as (app, cls):
        [user_id] = new_users(app, cls)
        app.drain()
        with app.session() as session:
            session.delete(session.get_one(cls, user_id))
            session.commit()
            session.add(cls(id=user_id))
            session.flush()
            session.get_one(cls, user_id).activate()
            session.commit()

        assert states(app) == [S.COMPLETED, S.QUEUED]


def test_a_record_that_leaves_and_comes_back_waits_for_its_period(database_url):
    with users(database_url, HOURLY) as (app, cls):
        [user_id] = new_users(app, cls)
        app.drain()
        with app.session() as session:
            user = session.get_one(cls, user_id)
            user.rest()
            session.flush()
            user.activate()
            session.commit()

        assert states(app) == [S.COMPLETED]


def test_in_bulk(database_url):
    with users(database_url, HOURLY) as (app, cls):
        ids = new_users(app, cls, 4)
        with app.session() as session:
            session.get_one(cls, ids[0]).nudge()
            session.commit()
        app.drain()
        app.sources.clock.advance(hours=1)
        nudge(app, cls, ids[0])
        nudge(app, cls, ids[1])
        app.sources.clock.advance(minutes=1)
        app.drain()
        set_job(app, stored(app)[2].id, state="discarded")

        with app.session() as session:
            result = cls.nudge.bulk(session, where=true())
            session.commit()

        assert result == BulkResult(moved=4, inserted=1, retried=1, duplicate=2)
        waiting = [job.record_id for job in stored(app) if job.state is S.QUEUED]
        assert sorted(waiting) == [str(ids[2]), str(ids[3])]


def test_what_an_action_runs_next(database_url):
    """A welcome ends where each user is reminded, at most once an hour."""

    class Base(DeclarativeBase): ...

    class Guest(StatefulResource, Base):
        __tablename__ = "guests"
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[UserState] = state_column(UserState, initial=UserState.DRAFT)
        welcome = Trigger.on_demand("guest.welcome")
        remind = Trigger.on_demand("guest.remind", unique=HOURLY)

        @welcome.action(UserState.DRAFT, UserState.ACTIVE, run_trigger=remind)
        def welcome_it(self, ctx: JobContext) -> None: ...

        @remind.action(UserState.ACTIVE, UserState.ACTIVE)
        def remind_it(self, ctx: JobContext) -> None: ...

        @transition(UserState.ACTIVE, UserState.DRAFT, run_trigger=welcome)
        def leave(self) -> None: ...

    def welcome(app, guest_id):
        with app.session() as session:
            guest = session.get_one(Guest, guest_id)
            if guest.state is UserState.ACTIVE:
                guest.leave()
            else:
                Guest.welcome_it.enqueue(session, guest)
            session.commit()
        app.drain()

    with unique_app(database_url, resources=[Guest]) as app:
        with app.session() as session:
            session.add(Guest(id=1))
            session.commit()
        welcome(app, 1)
        welcome(app, 1)
        app.sources.clock.advance(hours=1)
        welcome(app, 1)

        reminders = [job for job in stored(app) if job.key == "guest.remind"]
        assert [job.state for job in reminders] == [S.COMPLETED] * 2
        assert [job.enqueued_at for job in reminders] == [NOON, NOON + HOUR]


@pytest.mark.parametrize(
    "unique",
    [
        HOURLY,
        Unique(period=HOUR, on_conflict="run_again"),
        Unique(period=HOUR, on_conflict="replace", replace={S.QUEUED: ["args"]}),
    ],
    ids=["skip", "run again", "replace"],
)
def test_a_dry_run_of_bulk_foretells_what_becomes_of_them(database_url, unique):
    states = [*S, None]
    with users(database_url, unique) as (app, cls):
        new_users(app, cls, len(states))
        for job, state in zip(stored(app), states, strict=True):
            set_job(app, job.id, state=state or S.COMPLETED)
        set_job(app, stored(app)[-1].id, unique_until=NOON)  # it is over
        app.sources.clock.advance(minutes=1)
        with app.session() as session:
            foretold = cls.nudge.bulk(session, where=true(), dry_run=True)
            done = cls.nudge.bulk(session, where=true())

    counts = {one.value: getattr(done, one) for one in Enqueued if getattr(done, one)}
    assert foretold.enqueued == {"user.remind": counts}
    assert foretold.moved == done.moved == len(states)


def test_in_bulk_with_arguments_of_each_record(database_url):
    options = {"args": lambda user: {"text": f"user {user.id}"}}
    with users(database_url, HOURLY, **options) as (app, cls):
        ids = new_users(app, cls, 3)
        app.drain()
        app.sources.clock.advance(hours=1)
        nudge(app, cls, ids[0])
        with app.session() as session:
            result = cls.nudge.bulk(session, where=true())
            session.commit()

        assert result == BulkResult(moved=3, inserted=2, duplicate=1)
        waiting = [job for job in stored(app) if job.state is S.QUEUED]
        assert {job.record_id: job.args for job in waiting} == {
            str(n): f'{{"text":"user {n}"}}' for n in ids
        }
        assert len({job.idempotency_key for job in stored(app)}) == 6


def test_creation_in_sql(database_url):
    unique = Unique(period=HOUR)

    class Base(DeclarativeBase): ...

    class Row(StatefulResource, Base):
        __tablename__ = "rows"
        id: Mapped[int] = mapped_column(primary_key=True)
        remind = Trigger.on_demand("row.remind", unique=unique)
        state: Mapped[UserState] = state_column(
            UserState, initial=UserState.NEW, run_trigger=remind
        )

        @remind.action(UserState.NEW, UserState.NEW)
        def remind_user(self, ctx: JobContext) -> None: ...

        @transition(UserState.NEW, UserState.GONE)
        def go(self) -> None: ...

    with unique_app(database_url, resources=[Row]) as app, app.session() as session:
        session.execute(insert(Row), [{}, {}])
        session.commit()

        assert [job.unique_until for job in stored(app)] == [NOON + HOUR] * 2
        app.drain()
        row = session.scalars(select(Row)).first()
        assert Row.remind_user.enqueue(session, row).outcome is DUPLICATE


# What no trigger can be --------------------------------------------------------------------------


class Step(StrEnum):
    OPEN = "open"
    BUSY = "busy"
    DONE = "done"
    LOST = "lost"


def declare(unique=HOURLY, *, runs=False, **action):
    """A resource whose trigger is *unique*, and whose action is as said."""

    class Base(DeclarativeBase): ...

    class Bill(StatefulResource, Base):
        __tablename__ = "bills"
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[Step] = state_column(Step, initial=Step.OPEN)
        remind = Trigger.on_demand("bill.remind", unique=unique)

        @remind.action(**action)
        def remind_it(self, ctx: JobContext) -> None: ...

        @transition(
            [Step.OPEN, Step.BUSY, Step.LOST],
            Step.DONE,
            run_trigger=remind if runs else None,
        )
        def close(self) -> None: ...

    return Bill


@pytest.mark.parametrize(
    ("action", "leads"),
    [
        ({"source": Step.OPEN, "target": Step.DONE}, "leads from open to done"),
        (
            {"source": [Step.OPEN, Step.LOST], "target": Step.OPEN},
            "leads from open, lost to open",
        ),
        (
            {
                "source": Step.OPEN,
                "target": Step.OPEN,
                "during": Step.BUSY,
                "failed": Step.LOST,
            },
            "leads from open to open during busy",
        ),
        (
            {"source": Step.OPEN, "target": [Step.OPEN, Step.DONE]},
            "leads from open to open or done",
        ),
        ({"source": Step.OPEN, "deletes": True}, "deletes its record"),
    ],
)
def test_a_record_must_not_wait_for_what_a_period_may_refuse(action, leads):
    with pytest.raises(DefinitionError) as refused:
        declare(**action)

    assert str(refused.value).splitlines() == [
        f"Bill.remind_it: trigger 'bill.remind' is Unique for a period, and the action {leads}",
        "  why: a record that rests in its source waits for a job, which the period may refuse",
        "  fix: let the action lead back to its one source, without during=; or leave out unique=",
    ]


def test_a_move_runs_no_trigger_that_raises():
    unique = Unique(period=HOUR, on_conflict="raise")
    stays = {"source": Step.DONE, "target": Step.DONE}
    assert declare(unique, **stays)

    with pytest.raises(DefinitionError) as refused:
        declare(unique, runs=True, **stays)

    assert str(refused.value).splitlines() == [
        "Bill.close: it runs trigger 'bill.remind', whose Unique raises",
        "  why: a job that is there already would fail the flush that moves the record",
        "  fix: say on_conflict='skip', or leave out run_trigger and enqueue the action where "
        "you can catch DuplicateJobError",
    ]


@pytest.mark.parametrize(
    ("unique", "lines"),
    [
        (
            Unique(by=["id"], period=HOUR),
            [
                "trigger 'bill.remind': its Unique has by=['id']",
                "  why: the jobs of a trigger share their record, and nothing else",
                "  fix: leave out by=",
            ],
        ),
        (
            Unique(),
            [
                "trigger 'bill.remind': its Unique has no period",
                "  why: a trigger and a record have at most one open job already",
                "  fix: say how long none may follow it: Unique(period=timedelta(days=1)); "
                "or leave out unique=",
            ],
        ),
    ],
)
def test_what_makes_no_trigger_unique(unique, lines):
    with pytest.raises(DefinitionError) as refused:
        Trigger.on_demand("bill.remind", unique=unique)

    assert str(refused.value).splitlines() == lines


def test_a_task_is_unique_by_what_it_takes():
    with pytest.raises(DefinitionError) as refused:

        @task("bill.send", unique=Unique(by=["custmer"]))
        def send(ctx: JobContext, customer: int) -> None: ...

    assert str(refused.value).splitlines() == [
        "task 'bill.send', send(): its Unique is by 'custmer', which is no argument of it",
        "  why: requests that share what by= names are one",
        "  fix: did you mean 'customer'?",
    ]
    with pytest.raises(DefinitionError, match="did you mean 'tenant'"):
        task("bill.send", unique=Unique(by=["tenat"]))(lambda customer: None)


def test_an_option_that_it_has_not_is_told_with_the_closest():
    with pytest.raises(
        DefinitionError, match=r"unknown option 'perod'(?s:.*)did you mean 'period'"
    ):
        Unique(perod=HOUR)


def test_the_context_is_nothing_to_share():
    with pytest.raises(DefinitionError, match="by 'ctx', which is no argument of it"):

        @task("bill.send", unique=Unique(by=["ctx"]))
        def send(ctx: JobContext, customer: int) -> None: ...


@pytest.mark.parametrize("declare", [task, Trigger.on_demand])
def test_another_thing_is_no_unique(declare):
    with pytest.raises(
        ValueError, match=r"unique must be a Unique, not True; say unique=Unique\(\)"
    ):
        declare("bill.send", unique=True)

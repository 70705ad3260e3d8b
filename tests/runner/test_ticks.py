"""A scheduled action runs once at each tick, whoever lives then, and says so in rows."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import event, select

from statejobs import (
    Domain,
    JobContext,
    JobState,
    StateJobs,
    Unique,
    scheduled_action,
)
from statejobs.events import ScheduleCaughtUp, ScheduleSkipped, ScheduleTicked
from statejobs.store.schema import create_tables
from statejobs.store.tables import schedules, ticks
from statejobs.work.schedules import ticks as ticks_module
from tests.support.bells import (
    TOWER,
    jobs_of,
    ring,
    rows_of,
    schedule_of,
    script,
    ticks_of,
    tower,
    write_schedule,
)
from tests.support.bound import outer_transaction, user_engine
from tests.support.clock import NOON, manual_sources
from tests.support.hostile import execute
from tests.support.pennants import Pennant, hoisted
from tests.support.processes import eventually
from tests.support.services import run_service

TEN = timedelta(minutes=10)
HOUR = timedelta(hours=1)


@pytest.fixture
def app(database_url, clock):
    with tower(database_url, clock=clock) as opened:
        yield opened


def at(text):
    return datetime.fromisoformat(f"2030-01-{text}+00:00")


def told_by(app):
    told = []
    app.telemetry.subscribe(
        told.append, ScheduleTicked, ScheduleSkipped, ScheduleCaughtUp
    )
    return told


def test_a_schedule_is_written_when_somebody_runs_it_first(app):
    app.drain()

    rows = {row.key: row.next_at for row in rows_of(app, schedules)}
    assert rows == {
        "bell.ring": NOON + TEN,
        "bell.strike": NOON + HOUR,
        "bell.toll": at("02T08:00"),
    }
    assert rows_of(app, ticks) == []


def test_a_tick_runs_its_job_with_its_instant_and_that_of_the_one_before(app, clock):
    seen = []
    script.ring = lambda ctx: seen.append((ctx.tick, ctx.last_tick))
    app.drain()

    for _ in range(2):
        clock.advance(TEN + timedelta(seconds=3))
        app.drain()

    assert seen == [(NOON + TEN, None), (NOON + 2 * TEN, NOON + TEN)]
    assert ticks_of(app, "bell.ring") == [
        (NOON + TEN, 1, 0),
        (NOON + 2 * TEN, 1, 0),
    ]
    row = schedule_of(app, "bell.ring")
    assert (row.last_at, row.next_at) == (NOON + 2 * TEN, NOON + 3 * TEN)


def test_nothing_is_enqueued_before_its_time(app, clock):
    app.drain()

    clock.advance(TEN - timedelta(microseconds=1))
    app.drain()

    assert jobs_of(app, "bell.ring") == []


def test_an_async_action_ticks(app, clock):
    seen = []
    script.toll = lambda ctx: seen.append((ctx.tick, ctx.last_tick))
    app.drain()

    clock.advance(hours=20)
    app.drain()

    assert seen == [(at("02T08:00"), None)]


def test_a_tick_is_skipped_while_the_job_of_the_last_one_waits_for_a_retry(app, clock):
    script.ring = fail_always
    app.drain()
    clock.advance(TEN)
    app.drain()
    told = told_by(app)
    execute(app, "UPDATE statejobs_jobs SET run_at = '2030-01-30 00:00:00.000000'")

    clock.advance(TEN)
    app.drain()

    (job,) = jobs_of(app, "bell.ring")
    assert (job.state, job.tick_at) == (JobState.FAILED, NOON + TEN)
    assert ticks_of(app, "bell.ring")[-1] == (NOON + 2 * TEN, 0, 1)
    assert rows_of(app, ticks, "bell.ring")[-1].why == (
        "the job of an earlier tick lives"
    )
    assert [type(one) for one in told] == [ScheduleSkipped]


def test_a_job_that_gave_up_silences_no_schedule(app, clock):
    script.ring = fail_always
    app.drain()
    for _ in range(3):
        clock.advance(TEN)
        app.drain()
    states = [job.state for job in jobs_of(app, "bell.ring")]
    assert states == ["discarded", "failed"]

    script.ring = lambda ctx: None
    clock.advance(TEN)
    app.drain()
    clock.advance(TEN)
    app.drain()

    assert jobs_of(app, "bell.ring")[-1].state == "completed"


def fail_always(_ctx):
    raise ValueError("no")


def test_ticks_that_queue_have_a_job_each(app, clock):
    script.strike = fail_always
    app.drain()
    for _ in range(2):
        clock.advance(HOUR)
        app.drain()

    instants = [job.tick_at for job in jobs_of(app, "bell.strike")]

    assert instants == [NOON + HOUR, NOON + 2 * HOUR]


def test_of_missed_ticks_the_last_is_made_up_for(app, clock):
    app.drain()
    told = told_by(app)

    clock.advance(hours=1, minutes=5)
    app.drain()

    last = NOON + HOUR
    assert ticks_of(app, "bell.ring") == [(last - TEN, 0, 5), (last, 1, 0)]
    assert rows_of(app, ticks, "bell.ring")[0].why == (
        "missed: nobody took it in time, it was seen 0:15:00 late"
    )
    ours = [one for one in told if one.key == "bell.ring"]
    assert [(type(one), one.at) for one in ours] == [
        (ScheduleSkipped, last - TEN),
        (ScheduleCaughtUp, last),
        (ScheduleTicked, last),
    ]
    assert (ours[0].count, ours[1].count) == (5, 1)
    assert (ours[2].enqueued, ours[2].lag) == (1, 300.0)


def test_all_missed_ticks_are_made_up_for_up_to_a_hundred(app, clock):
    app.drain()

    clock.advance(hours=110, minutes=2)
    app.drain()

    last = NOON + 110 * HOUR
    found = ticks_of(app, "bell.strike")
    assert found[0] == (last - 100 * HOUR, 0, 10)
    assert found[1:] == [(last - n * HOUR, 1, 0) for n in reversed(range(100))]
    assert len(jobs_of(app, "bell.strike")) == 100


def test_a_tick_that_is_missed_may_be_left_out(app, clock):
    app.drain()

    clock.advance(hours=20, minutes=2)
    app.drain()

    assert ticks_of(app, "bell.toll") == [(at("02T08:00"), 0, 1)]
    assert schedule_of(app, "bell.toll").next_at == at("03T08:00")
    assert jobs_of(app, "bell.toll") == []


def test_a_tick_that_is_a_minute_late_is_not_missed(app, clock):
    app.drain()

    clock.advance(hours=20, minutes=1)
    app.drain()

    assert ticks_of(app, "bell.toll") == [(at("02T08:00"), 1, 0)]


def test_a_job_that_somebody_asks_for_is_no_tick(app):
    seen = []
    script.ring = lambda ctx: seen.append((ctx.tick, ctx.last_tick))
    with app.session() as session:
        for _ in range(2):
            ring.enqueue(session)
        session.commit()

    app.drain()

    assert seen == [(None, None)] * 2


def test_a_paused_schedule_rests_whatever_the_code_says(app, clock):
    app.drain()
    write_schedule(app, "bell.ring", paused_at=NOON, paused_by="ann")

    clock.advance(TEN)
    app.drain()

    assert ticks_of(app, "bell.ring") == []
    assert schedule_of(app, "bell.ring").paused_by == "ann"


def test_the_scheduled_action_of_a_resource_is_found_by_itself(database_url, clock):
    with tower(
        database_url, clock=clock, domain=Domain("fleet", resources=[Pennant])
    ) as app:
        app.drain()
        clock.advance(days=1)
        app.drain()

        assert app.registry.schedules.keys() == {"pennant.hoist"}
        with app.session() as session:
            assert hoisted(session) == ["2030-01-02"]
        assert Pennant.hoist.key == "pennant.hoist"


def test_a_look_of_an_idle_worker_is_one_statement_that_tells_of_ticks(app, clock):
    worker = app.worker()
    run_service(worker, "ticks")
    run_service(worker, "claim")
    sent = []

    def note(_connection, _cursor, statement, *_more):
        sent.append(statement)

    event.listen(app.engine, "before_cursor_execute", note)
    clock.advance(seconds=1)
    run_service(worker, "claim")
    looks, sent[:] = [*sent], []
    waits = run_service(worker, "ticks")
    event.remove(app.engine, "before_cursor_execute", note)

    asked = [text for text in looks if text.startswith(("SELECT", "WITH"))]
    assert len(asked) == 1
    assert "statejobs_schedules" in asked[0]
    assert waits == timedelta(seconds=10)


def test_a_worker_hears_by_its_look_of_a_tick_that_others_have_made_due(app, clock):
    worker = app.worker()
    ticking = next(one for one in worker.services if one.name == "ticks")
    ticking.run_once()
    assert not ticking.news.is_set()
    clock.advance(seconds=5)
    write_schedule(app, "bell.ring", next_at=clock.now())

    run_service(worker, "claim")

    assert ticking.news.is_set()


def test_a_worker_waits_just_until_the_next_tick(app, clock):
    worker = app.worker()
    run_service(worker, "ticks")

    clock.advance(TEN - timedelta(seconds=3))

    assert run_service(worker, "ticks") == timedelta(seconds=3)


def test_a_worker_ticks_by_itself(app, clock):
    app.drain()
    clock.advance(TEN)

    with app.running():
        done = eventually(
            lambda: [j for j in jobs_of(app, "bell.ring") if j.state == "completed"]
        )

    assert [job.tick_at for job in done] == [NOON + TEN]


def test_one_schedule_that_fails_keeps_no_other_from_its_ticks(app, clock, monkeypatch):
    app.drain()
    worker = app.worker()
    clock.advance(HOUR)
    enqueue = ticks_module.enqueue_tick

    def fail_once(connection, spec, at, now, **options):
        if spec.key == "bell.ring":
            raise ZeroDivisionError
        return enqueue(connection, spec, at, now, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ticks_module, "enqueue_tick", fail_once)
        with pytest.raises(ZeroDivisionError):
            run_service(worker, "ticks")

    assert ticks_of(app, "bell.strike") == [(NOON + HOUR, 1, 0)]
    assert ticks_of(app, "bell.ring") == []  # nothing is half done
    run_service(worker, "ticks")
    assert ticks_of(app, "bell.ring")[-1] == (NOON + HOUR, 1, 0)


def test_a_tick_keeps_what_its_task_says_of_its_jobs(database_url, clock):
    @scheduled_action(
        "bell.peal", cron="@hourly", queue="low", priority=3, default_actor="sexton"
    )
    def peal(times: int = 3) -> int:
        return times

    domain = Domain("tower", tasks=[peal], queues={"low": 1})
    with tower(database_url, clock=clock, domain=domain) as app:
        app.drain()
        clock.advance(HOUR)
        app.drain()
        (job,) = jobs_of(app, "bell.peal")

        assert (job.queue, job.priority, job.actor) == ("low", 3, "sexton")
        assert app.queries.job(job.id).result == "3"


def test_a_tick_is_skipped_as_unique_says_while_a_person_asked_for_the_same(
    database_url, clock
):
    @scheduled_action(
        "bell.peal", cron="@hourly", unique=Unique(by=(), on_conflict="raise")
    )
    def peal() -> None:
        """Nothing."""

    domain = Domain("tower", tasks=[peal])
    with tower(database_url, clock=clock, domain=domain) as app:
        app.drain()
        clock.advance(HOUR)
        with app.session() as session:
            peal.options(delay=HOUR).enqueue(session)
            session.commit()
        app.drain()

        assert ticks_of(app, "bell.peal") == [(NOON + HOUR, 0, 1)]


def test_a_renamed_action_goes_on_with_the_job_of_its_former_key(database_url, clock):
    def ringing(*args, **options):
        @scheduled_action(*args, cron="*/10 * * * *", **options)
        def peal(ctx: JobContext) -> None:
            fail_always(ctx)

        return Domain("tower", tasks=[peal])

    with tower(database_url, clock=clock, domain=ringing("old.bell")) as before:
        before.drain()
        clock.advance(TEN)
        before.drain()
    renamed = ringing("new.bell", aliases=["old.bell"])
    with tower(database_url, clock=clock, domain=renamed, prefix="b") as app:
        app.drain()
        execute(app, "UPDATE statejobs_jobs SET run_at = '2030-01-30 00:00:00.000000'")
        clock.advance(TEN)
        app.drain()

        assert ticks_of(app, "new.bell") == [(NOON + 2 * TEN, 0, 1)]
        assert jobs_of(app, "new.bell") == []


def test_a_schedule_ticks_inside_of_an_outer_transaction(database_url, clock):
    engine = user_engine(database_url)
    create_tables(engine)
    with outer_transaction(engine) as connection:
        app = StateJobs(connection, domains=[TOWER], sources=manual_sources(clock))
        app.drain()
        clock.advance(TEN)
        app.drain()

        assert [at for (at,) in connection.execute(select(ticks.c.at))] == [NOON + TEN]
    with engine.connect() as connection:
        assert connection.execute(select(ticks)).all() == []
    engine.dispose()

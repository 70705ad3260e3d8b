"""The transition is the enqueue: one flush, one connection, one commit."""

import threading

import pytest
from sqlalchemy import create_engine, event, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from statejobs import (
    BindMismatchError,
    Enqueued,
    JobState,
    StaleTransitionError,
    acting_as,
    configure_sqlite,
)
from statejobs.store.tables import jobs as job_table
from tests.support.worker_app import Base, Task, make_app


@pytest.fixture
def app(database_url):
    app = make_app(database_url)
    app.create_all()
    yield app
    app.engine.dispose()


def submitted(app):
    with app.session() as session:
        task = Task()
        session.add(task)
        task.submit()
        session.commit()
    return task


def states(app):
    return [job.state for job in app.queries.jobs()]


def set_job(app, **values):
    with app.engine.begin() as connection:
        connection.execute(update(job_table).values(**values))


def test_a_rollback_takes_state_history_and_job(app):
    with app.session() as session:
        task = Task()
        session.add(task)
        session.commit()
        task.submit()
        session.flush()
        session.rollback()

        assert task.state == "draft"

    assert states(app) == []
    assert len(app.queries.transitions("Task", str(task.id))) == 1


def test_a_rollback_may_let_go_of_a_record_that_nobody_else_holds(app):
    with app.session() as session:
        session.add(Task(id=7))
        session.commit()
        session.expunge_all()
        session.get_one(Task, 7).submit()

        session.rollback()

    assert states(app) == []


def test_a_savepoint_rollback_takes_only_its_own(app):
    with app.session() as session:
        kept, dropped = Task(), Task()
        session.add_all([kept, dropped])
        session.commit()
        kept.submit()
        savepoint = session.begin_nested()
        dropped.submit()
        session.flush()
        savepoint.rollback()
        session.commit()

    assert [job.record_id for job in app.queries.jobs()] == [str(kept.id)]


def test_a_record_made_transient_by_a_savepoint_keeps_its_steps(app):
    with app.session() as session:
        task = Task()
        savepoint = session.begin_nested()
        session.add(task)
        task.submit()
        session.flush()
        savepoint.rollback()
        session.add(task)
        session.commit()

    assert states(app) == [JobState.QUEUED]


def test_fifty_records_take_one_insert_of_jobs(app):
    with app.session() as session:
        tasks = [Task() for _ in range(50)]
        session.add_all(tasks)
        session.commit()
        sent = []
        event.listen(app.engine, "before_cursor_execute", lambda *a: sent.append(a[2]))
        for task in tasks:
            task.submit()
        session.commit()

    assert sum("INTO statejobs_jobs" in text for text in sent) == 1
    assert sum("INTO statejobs_transitions" in text for text in sent) == 1
    assert sum(text.startswith("UPDATE tasks") for text in sent) == 1


def test_leaving_the_promising_state_cancels_the_waiting_job(app):
    task = submitted(app)

    with app.session() as session:
        session.get(Task, task.id).cancel("no need")
        session.commit()

    (job,) = app.queries.jobs()
    assert (job.state, job.reason) == (JobState.CANCELLED, "left by cancel")


def test_two_steps_in_one_flush_leave_no_job_behind(app):
    with app.session() as session:
        task = Task()
        session.add(task)
        task.submit()
        task.cancel("at once")
        session.commit()

    assert states(app) == []
    assert len(app.queries.transitions("Task", str(task.id))) == 3


def test_enqueue_on_a_waiting_job_coalesces(app):
    task = submitted(app)

    with app.session() as session:
        result = Task.do_it.options(priority=3).enqueue(
            session, session.get(Task, task.id)
        )
        session.commit()

    (job,) = app.queries.jobs()
    assert (result.outcome, result.job_id) == (Enqueued.COALESCED, job.id)
    assert (job.priority, job.attempt) == (3, 0)


def test_enqueue_on_a_running_job_runs_it_again(app):
    task = submitted(app)
    set_job(app, state="processing", token="t", owner="o", attempt=1)

    with app.session() as session:
        result = Task.do_it.enqueue(session, session.get(Task, task.id))
        session.commit()

    (job,) = app.queries.jobs()
    assert result.outcome is Enqueued.RUN_AGAIN
    assert (job.state, job.run_again, job.attempt) == (JobState.PROCESSING, True, 1)


def test_a_job_that_gave_up_goes_on_with_its_idempotency_key(app):
    task = submitted(app)
    set_job(app, state="discarded", attempt=2)
    (before,) = app.queries.jobs()

    with app.session() as session:
        result = Task.do_it.enqueue(session, session.get(Task, task.id))
        session.commit()

    (after,) = app.queries.jobs()
    assert result.outcome is Enqueued.RETRIED
    assert (after.id, after.idempotency_key) == (before.id, before.idempotency_key)
    assert (after.attempt, after.max_attempts) == (2, 4)


def test_of_many_racers_one_wins(app):
    with app.session() as session:
        task = Task()
        session.add(task)
        session.commit()
    outcomes = []
    start = threading.Barrier(8)

    def race():
        with app.session() as session:
            mine = session.get(Task, task.id)
            mine.submit()
            start.wait()
            try:
                session.commit()
                outcomes.append("won")
            except StaleTransitionError:
                outcomes.append("stale")

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["stale"] * 7 + ["won"]
    assert states(app) == [JobState.QUEUED]
    assert len(app.queries.transitions("Task", str(task.id))) == 2


def test_an_unrelated_edit_does_not_conflict(app):
    task = submitted(app)
    with app.session() as mine, app.session() as other:
        cancelled, edited = mine.get(Task, task.id), other.get(Task, task.id)
        edited.note = "call first"
        other.commit()
        cancelled.cancel("late")
        mine.commit()

    with app.session() as session:
        found = session.get(Task, task.id)
        assert (found.state, found.note) == ("cancelled", "call first")


def test_two_databases_are_refused(app, tmp_path):
    other = configure_sqlite(create_engine(f"sqlite:///{tmp_path / 'other.db'}"))
    with Session(binds={Base: app.engine, job_table: other}) as session:
        task = Task()
        session.add(task)
        task.submit()

        with pytest.raises(
            BindMismatchError, match=r"Task is bound to .* but the job tables to"
        ):
            session.commit()
    other.dispose()


def test_a_session_that_binds_only_the_models_works(app):
    with Session(binds={Base: app.engine}) as session:
        task = Task()
        session.add(task)
        task.submit()
        session.commit()

    assert states(app) == [JobState.QUEUED]


def test_who_acts_is_stored(app):
    with acting_as("user:7"):
        task = submitted(app)

    (job,) = app.queries.jobs()
    assert job.actor == "user:7"
    assert {r["actor"] for r in app.queries.transitions("Task", str(task.id))} == {
        "user:7"
    }


def test_an_async_session_enqueues_too(app, database_url):
    import asyncio

    async def submit():
        url = database_url.replace("sqlite:", "sqlite+aiosqlite:")
        engine = create_async_engine(url)
        if "sqlite" in url:
            configure_sqlite(engine.sync_engine)
        async with AsyncSession(engine) as session:
            task = Task()
            session.add(task)
            task.submit()
            await session.commit()
        await engine.dispose()

    asyncio.run(submit())

    assert states(app) == [JobState.QUEUED]

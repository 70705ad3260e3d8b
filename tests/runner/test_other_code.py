"""Two versions of the code share a queue: what one does not fit waits for the other."""

from datetime import timedelta

import pytest
from sqlalchemy import delete, text, update

from statejobs import Domain, JobState, StateJobs, task
from statejobs.store.tables import jobs, nodes
from tests.support.clock import manual_sources
from tests.support.parcels import (
    Letter,
    Parcel,
    attempts_of,
    close_app,
    enqueue,
    job_of,
    send,
    state_of,
    steps,
)

TEN_MINUTES = timedelta(minutes=10)
CALLS: list[object] = []


def old_mail():
    @task("other.mail", max_attempts=1)
    def mail(to: str) -> None:
        CALLS.append(to)

    return mail


def new_mail():
    @task("other.mail", max_attempts=1)
    def mail(to: str, cc: str = "") -> None:
        CALLS.append((to, cc))

    return mail


@pytest.fixture
def versions(database_url, clock):
    """The old and the new app, and the new task."""
    CALLS.clear()
    tasks = [old_mail(), new_mail()]
    apps = [
        StateJobs(
            database_url,
            domains=[Domain("other", tasks=[made])],
            sources=manual_sources(clock, prefix=prefix),
        )
        for prefix, made in zip("on", tasks, strict=True)
    ]
    apps[0].create_all()
    yield (*apps, tasks[1])
    for app in apps:
        close_app(app)


def ask(app, mail, **args):
    with app.session() as session:
        job_id = mail.enqueue(session, "ada", **args).job_id
        session.commit()
    return job_id


def test_a_new_argument_costs_old_workers_no_attempt(versions, clock):
    old, new, mail = versions
    job_id = ask(new, mail, cc="bob")

    assert old.drain().counts == {}

    job = old.queries.job(job_id)
    assert (job.state, job.attempt) == (JobState.SCHEDULED, 0)
    assert clock.now() + timedelta(seconds=5) <= job.run_at <= clock.now() + TEN_MINUTES
    assert "'cc' is unknown" in job.reason
    assert old.queries.attempts(job_id) == []
    (row,) = old.queries.waiting_for_other_code(clock.now())
    assert (row["key"], row["count"]) == ("other.mail", 1)

    clock.advance(seconds=10)
    assert new.drain().counts == {"complete": 1}
    assert CALLS == [("ada", "bob")]


def test_what_fits_runs_beside_what_does_not(versions):
    old, new, mail = versions
    ask(new, mail, cc="bob")
    ask(new, mail)

    assert old.drain().counts == {"complete": 1}
    assert CALLS == ["ada"]


def drain_until(app, job_id, clock, span):
    """Let *app* meet a job again and again for *span*."""
    end = clock.now() + span
    while clock.now() < end and app.queries.job(job_id).state is JobState.SCHEDULED:
        clock.advance(minutes=5)
        app.drain()


def test_what_fits_nobody_for_ten_minutes_fails_and_names_the_argument(versions, clock):
    old, new, mail = versions
    job_id = ask(new, mail, cc="bob")
    old.drain()

    drain_until(old, job_id, clock, timedelta(minutes=30))

    assert old.queries.job(job_id).state is JobState.DISCARDED
    (row,) = old.queries.attempts(job_id)
    assert "argument 'cc' is unknown" in row["message"]


def test_it_waits_as_long_as_a_live_node_declares_otherwise(versions, clock):
    old, new, mail = versions
    job_id = ask(new, mail, cc="bob")
    node = new.worker()
    for _ in range(6):
        with new.engine.begin() as connection:
            connection.execute(delete(nodes))
        node.register()
        old.drain()
        clock.advance(minutes=10)
    assert old.queries.job(job_id).state is JobState.SCHEDULED
    assert old.queries.job(job_id).attempt == 0

    with new.engine.begin() as connection:
        connection.execute(delete(nodes))
    drain_until(old, job_id, clock, timedelta(minutes=45))
    assert old.queries.job(job_id).state is JobState.DISCARDED


def test_nodes_that_declare_the_same_are_not_waited_for(versions, clock):
    old, new, mail = versions
    job_id = ask(new, mail, cc="bob")
    another = StateJobs(
        str(old.engine.url.render_as_string(hide_password=False)),
        domains=old.domains,
        sources=manual_sources(clock, prefix="a"),
    )
    another.worker().register()
    old.drain()
    drain_until(old, job_id, clock, timedelta(minutes=30))

    assert old.queries.job(job_id).state is JobState.DISCARDED
    close_app(another)


def test_a_record_whose_job_does_not_fit_does_not_move(app):
    (key,) = enqueue(app, Letter, "put_on_scale")
    with app.engine.begin() as connection:
        connection.execute(update(jobs).values(args='{"weight":1}'))
    before = steps(app, Letter, key)

    assert app.drain().counts == {}

    job = job_of(app, Letter, key)
    assert (job.state, job.attempt) == (JobState.SCHEDULED, 0)
    assert steps(app, Letter, key) == before
    assert attempts_of(app, Letter, key) == []


@pytest.fixture
def flying(app):
    """Puts a parcel into a state that this code does not know, for as long as the test."""
    if app.engine.dialect.name == "sqlite":
        pytest.skip("SQLite keeps the CHECK of a column")

    def fly(key):
        with app.engine.begin() as connection:
            names = connection.scalars(
                text(
                    "SELECT conname FROM pg_constraint WHERE contype = 'c' "
                    "AND conrelid = 'parcels'::regclass"
                )
            ).all()
            for name in names:
                connection.execute(
                    text(f'ALTER TABLE parcels DROP CONSTRAINT "{name}"')
                )
            connection.execute(
                text(f"UPDATE parcels SET state = 'flying' WHERE id = {key}")
            )

    yield fly
    with app.engine.begin() as connection:
        connection.execute(
            text("UPDATE parcels SET state = 'packed' WHERE state = 'flying'")
        )


def test_a_state_that_this_code_does_not_know_waits_and_then_fails(app, clock, flying):
    key, other = send(app, 2)
    flying(key)

    assert app.drain().counts == {"complete": 1}
    job = job_of(app, Parcel, key)
    assert (job.state, job.attempt) == (JobState.SCHEDULED, 0)
    assert "'flying'" in job.reason
    assert state_of(app, Parcel, other) == "sent"

    drain_until(app, job.id, clock, timedelta(minutes=30))

    assert "'flying'" in app.queries.attempts(job.id)[0]["message"]


def test_a_node_whose_row_was_deleted_comes_back_with_its_next_heartbeat(app):
    worker = app.worker()
    worker.register()
    with app.engine.begin() as connection:
        connection.execute(delete(nodes))

    worker._keeper.run_once()

    (row,) = app.queries.nodes()
    assert row["id"] == worker.node_id
    assert "parcel.send" in row["declares"]

"""Finding the jobs of one record among many, without an index that every update would pay for."""

import json

import pytest
from sqlalchemy import event, text

from statejobs import JobState
from tests.support.worker_app import Task, make_app

MANY = 20_000


@pytest.fixture
def app(database_url):
    opened = make_app(database_url)
    opened.create_all()
    yield opened
    opened.engine.dispose()


def submit(app, does="nothing"):
    with app.session() as session:
        task = Task(does=does)
        session.add(task)
        task.submit()
        session.commit()
        return str(task.id)


def found(app, record_id, **more):
    return [
        j.state for j in app.queries.jobs(resource="Task", record_id=record_id, **more)
    ]


def test_every_job_of_a_record_is_found_whatever_its_state(app):
    ended, failing = submit(app), submit(app, does="fail")
    app.drain()
    waiting = submit(app)
    cancelled = submit(app)
    (job,) = app.queries.jobs(resource="Task", record_id=cancelled)
    app.cancel_job(job.id)

    assert found(app, ended) == [JobState.COMPLETED]
    assert found(app, failing) == [JobState.FAILED]
    assert found(app, waiting) == [JobState.QUEUED]
    assert found(app, cancelled) == [JobState.CANCELLED]
    assert found(app, waiting, states=[JobState.COMPLETED]) == []
    assert found(app, "4711") == []


@pytest.mark.postgres
def test_no_scan_of_all_jobs_is_needed(postgres_url):
    app = make_app(postgres_url)
    app.create_all()
    ended = submit(app)
    app.drain()
    waiting = submit(app)
    crowd(app)
    asked = []
    event.listen(
        app.engine, "before_cursor_execute", lambda *a: asked.append((a[2], a[3]))
    )

    assert found(app, ended) == [JobState.COMPLETED]
    assert found(app, waiting) == [JobState.QUEUED]

    plans = [plan for statement in list(asked) for plan in plans_of(app, *statement)]
    reads = [plan for plan in plans if plan.get("Relation Name") == "statejobs_jobs"]
    assert len(reads) >= 4
    for plan in reads:
        assert plan["Node Type"] != "Seq Scan", plan
        assert "Recheck Cond" in plan or "Index Cond" in plan, plan
    app.engine.dispose()


def crowd(app):
    """Add many completed jobs of other records, each with its history."""
    copied = "key, queue, priority, state, run_at, args, resource, tags, max_attempts, enqueued_at"
    row = (
        f"INSERT INTO statejobs_jobs ({copied}, record_id, dedupe_key, idempotency_key)"
        f" SELECT {copied}, CAST(-n AS TEXT), concat(key, CAST(-n AS TEXT)), CAST(n AS TEXT)"
        " FROM statejobs_jobs, generate_series(1, :many) n WHERE state = 'completed'"
    )
    history = (
        "INSERT INTO statejobs_transitions (resource, record_id, name, target, version, job_id, at)"
        " SELECT resource, record_id, 'do_it.complete', 'completed', 3, id, enqueued_at"
        " FROM statejobs_jobs WHERE record_id LIKE '-%'"
    )
    with app.engine.begin() as connection:
        connection.execute(text(row), {"many": MANY})
        connection.execute(text(history))
        connection.execute(text("ANALYZE"))


def plans_of(app, statement, parameters):
    """Return every node of the plan of a statement."""
    with app.engine.connect() as connection:
        answer = connection.exec_driver_sql(
            f"EXPLAIN (FORMAT JSON) {statement}", parameters
        )
        plan = answer.scalar()
    return list(
        nodes_of((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
    )


def nodes_of(plan):
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes_of(part)

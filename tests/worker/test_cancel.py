"""A running action learns that it should stop."""

from datetime import timedelta

import pytest

from statejobs import (
    Domain,
    JobContext,
    JobState,
    StateJobs,
    WorkerSettings,
    acting_as,
    task,
)
from tests.support.deeds import wait_for_the_cancel
from tests.support.processes import eventually
from tests.support.rounds import Errand, S, add


@task("cancel.wait", queue="work")
def wait_alone(ctx: JobContext) -> None:
    wait_for_the_cancel(None, ctx)


@pytest.fixture
def app(database_url):
    settings = WorkerSettings(
        lease=timedelta(seconds=5), heartbeat=timedelta(seconds=0.3)
    )
    domain = Domain("cancel", resources=[Errand], tasks=[wait_alone])
    opened = StateJobs(
        database_url, domains=[domain], queues={"work": 2}, settings=settings
    )
    opened.create_all()
    yield opened
    opened.engine.dispose()


def test_a_cancel_reaches_the_running_task(app):
    with app.session() as session:
        job_id = wait_alone.enqueue(session).job_id
        session.commit()

    with app.running():
        eventually(lambda: app.queries.job(job_id).state is JobState.PROCESSING)
        app.cancel_job(job_id)
        eventually(lambda: app.queries.job(job_id).state is JobState.CANCELLED)


def test_a_cancel_reaches_the_running_action_with_its_reason_and_who_asked(app):
    add(app, Errand, "be cancelled")
    (job,) = app.queries.jobs()

    with app.running():
        eventually(lambda: app.queries.job(job.id).state is JobState.PROCESSING)
        with acting_as("user:7"):
            app.cancel_job(job.id, reason="no need")
        eventually(lambda: app.queries.job(job.id).state is JobState.CANCELLED)

    with app.session() as session:
        assert session.get(Errand, 1).state is S.FAILED
    reason = "no need (asked by user:7)"
    assert app.queries.job(job.id).reason == reason
    assert app.queries.transitions("Errand", "1")[-1]["reason"] == reason
    assert [row["message"] for row in app.queries.attempts(job.id)] == [reason]

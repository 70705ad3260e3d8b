"""A running action learns that it should stop."""

import time
from datetime import timedelta
from enum import StrEnum

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Domain,
    JobContext,
    JobState,
    StatefulResource,
    StateJobs,
    Trigger,
    WorkerSettings,
    acting_as,
    state_column,
    task,
)
from tests.support.processes import DEADLINE, eventually


class Base(DeclarativeBase): ...


class S(StrEnum):
    NEW = "new"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Watcher(StatefulResource, Base):
    __tablename__ = "watchers"

    id: Mapped[int] = mapped_column(primary_key=True)
    watch = Trigger.on_demand("watcher.watch")
    state: Mapped[S] = state_column(
        S, initial=S.NEW, final=(S.DONE,), run_trigger=watch
    )

    @watch.action(S.NEW, S.DONE, during=S.RUNNING, failed=S.FAILED)
    def look(self, ctx: JobContext) -> None:
        wait_for_the_cancel(ctx)


@task("watcher.alone")
def look_alone(ctx: JobContext) -> None:
    wait_for_the_cancel(ctx)


def wait_for_the_cancel(ctx):
    until = time.monotonic() + DEADLINE
    while not ctx.cancel_requested:
        if time.monotonic() > until:
            return
        time.sleep(0.02)  # noqa: TID251
    raise RuntimeError("stopped when asked")


@pytest.fixture
def app(database_url):
    settings = WorkerSettings(
        lease=timedelta(seconds=5), heartbeat=timedelta(seconds=0.3)
    )
    domain = Domain("w", resources=[Watcher], tasks=[look_alone])
    opened = StateJobs(database_url, domains=[domain], settings=settings)
    opened.create_all()
    yield opened
    opened.engine.dispose()


def test_a_cancel_reaches_the_running_task(app):
    with app.session() as session:
        job_id = look_alone.enqueue(session).job_id
        session.commit()

    with app.running():
        eventually(lambda: app.queries.job(job_id).state is JobState.PROCESSING)
        app.cancel_job(job_id)
        eventually(lambda: app.queries.job(job_id).state is JobState.CANCELLED)


def test_a_cancel_reaches_the_running_action_with_its_reason_and_who_asked(app):
    with app.session() as session:
        session.add(Watcher())
        session.commit()
    (job,) = app.queries.jobs()

    with app.running():
        eventually(lambda: app.queries.job(job.id).state is JobState.PROCESSING)
        with acting_as("user:7"):
            app.cancel_job(job.id, reason="no need")
        eventually(lambda: app.queries.job(job.id).state is JobState.CANCELLED)

    with app.session() as session:
        assert session.get(Watcher, 1).state == "failed"
    reason = "no need (asked by user:7)"
    assert app.queries.job(job.id).reason == reason
    assert app.queries.transitions("Watcher", "1")[-1]["reason"] == reason
    assert [row["message"] for row in app.queries.attempts(job.id)] == [reason]

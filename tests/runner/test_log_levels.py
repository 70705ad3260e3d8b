"""A trigger or task says how loud the log tells that its attempts fail."""

import logging
from datetime import timedelta
from enum import StrEnum

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    DefinitionError,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
    task,
)
from statejobs.events import JobEnded
from statejobs.runner.joblog import log_event
from tests.support.clock import ManualClock, manual_sources

QUIET = {
    "max_attempts": 2,
    "backoff": timedelta(minutes=1),
    "log_level": "info",
    "log_final_level": logging.CRITICAL,
}


class Base(DeclarativeBase): ...


class S(StrEnum):
    NEW = "new"
    SEEN = "seen"


class Page(StatefulResource, Base):
    __tablename__ = "pages"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[S] = state_column(S, initial=S.NEW)
    crawl = Trigger.on_demand("page.crawl", **QUIET)

    @crawl.action(S.NEW, S.SEEN)
    def fetch(self, ctx: JobContext) -> None:
        raise TimeoutError("the site is slow")


@task("ping.quiet", **QUIET)
def quiet() -> None:
    raise TimeoutError("the site is slow")


@task("ping.usual", max_attempts=2, backoff=timedelta(minutes=1))
def usual() -> None:
    raise TimeoutError("the site is slow")


@pytest.fixture
def levels(database_url, caplog):
    """Runs a job until it is discarded; returns the level of the line of each attempt."""
    clock = ManualClock()
    caplog.set_level(logging.DEBUG, "statejobs.jobs")
    domain = Domain("site", resources=[Page], tasks=[quiet, usual])

    def run(enqueue):
        with StateJobs(
            database_url, domains=[domain], sources=manual_sources(clock)
        ) as app:
            app.create_all()
            app.telemetry.subscribe(log_event, JobEnded)
            with app.session() as session:
                enqueue(session)
                session.commit()
            app.drain()
            clock.advance(hours=1)
            app.drain()
        return [record.levelname for record in caplog.records]

    return run


def enqueue_fetch(session):
    """Enqueue the action of a new page."""
    page = Page()
    session.add(page)
    session.flush()
    Page.fetch.enqueue(session, page)


@pytest.mark.parametrize("enqueue", [quiet.enqueue, enqueue_fetch])
def test_attempts_are_logged_at_the_levels_of_their_declaration(levels, enqueue):
    assert levels(enqueue) == ["INFO", "CRITICAL"]


def test_attempts_of_whoever_says_nothing_are_warnings_and_the_last_an_error(levels):
    assert levels(usual.enqueue) == ["WARNING", "ERROR"]


@pytest.mark.parametrize(
    ("level", "says"),
    [
        ("warn", "task 'a.b': log_level='warn' is no level of the log"),
        (True, "task 'a.b': log_level=True is no level of the log"),
        (0, "task 'a.b': log_level=0 is no level of the log"),
    ],
)
def test_what_is_no_level_is_refused_where_it_is_given(level, says):
    with pytest.raises(DefinitionError) as refused:
        task("a.b", log_level=level)

    assert str(refused.value).splitlines()[0] == says


def test_a_misspelt_level_is_told_the_one_that_is_meant():
    with pytest.raises(DefinitionError, match=r"did you mean 'warning'\?"):
        Trigger.on_demand("a.b", log_final_level="WARNIN")

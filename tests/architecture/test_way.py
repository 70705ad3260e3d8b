"""How long the way of a job is: it may become shorter, and does not grow unseen."""

import re
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import func, select

import statejobs
from statejobs import Sources, StateJobs, override_state
from statejobs.store.tables import jobs
from tests.architecture.way import recorded
from tests.support.parcels import POST, Parcel, ParcelState, close_app, send

JOBS = 300
A_JOB = (32, 90, 20)
"""Files, calls, and crossings from package to package, of one among many jobs in a worker."""
A_SUBMIT = (16, 91, 11)
"""The same, of a transition of a loaded record that enqueues a job, and the commit."""

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "architecture.md"
PACKAGE = Path(statejobs.__file__).parent
BENEATH = {
    "store/store.py",
    "store/engines/lazy_begin.py",
    "store/engines/witness.py",
    "store/types.py",
    "store/rows.py",
    "record/identity.py",
    "record/specs.py",
    "machine/kernel.py",
    "values/clock.py",
    "values/job.py",
    "values/outcome.py",
}
"""What everything lies on: connections, types, and values."""

pytestmark = [pytest.mark.postgres]


@pytest.fixture
def app(postgres_url):
    """An app that has done everything once."""
    app = StateJobs(postgres_url, domains=[POST], sources=Sources())
    app.create_all()
    send(app, 20)
    run_all(app)
    yield app
    close_app(app)


def run_all(app):
    """Run every job in a worker."""
    left = select(func.count()).where(jobs.c.finished_at.is_(None))
    with app.running():
        while count(app, left):
            Event().wait(0.05)


def recorded_jobs(app):
    """The way of many jobs; while the machine is busy what is done for a batch is done for few."""
    send(app, JOBS)
    with recorded() as way:
        run_all(app)
    return way


def count(app, query):
    """Return a number that is counted now."""
    with app.engine.begin() as connection:
        return connection.scalar(query)


def drawn(title):
    """The files that a chapter of the page on architecture names."""
    _, _, chapter = PAGE.read_text("utf-8").partition(f"\n## {title}\n")
    chapter, _, _ = chapter.partition("\n## ")
    return set(re.findall(r"^\| `([a-z_/]+\.py)`", chapter, re.MULTILINE))


def is_within(found, most):
    """Return whether a way is no longer than *most*."""
    return all(one <= limit for one, limit in zip(found, most, strict=True))


def test_a_job_in_a_worker(app):
    way = recorded_jobs(app)
    for _ in range(20):
        if is_within(way.per(JOBS), A_JOB):
            break
        way = recorded_jobs(app)

    assert is_within(way.per(JOBS), A_JOB), way.per(JOBS)
    assert way.each(JOBS) - drawn("A job") <= BENEATH, (
        "the page on architecture does not name them"
    )


def test_a_submit(app):
    with app.session() as session:
        parcels = [Parcel(), Parcel()]
        for parcel in parcels:
            with override_state(parcel, reason="a test"):
                parcel.state = ParcelState.LOST
        session.add_all(parcels)
        session.commit()
        for parcel in parcels:
            session.refresh(parcel)
            with recorded() as way:
                parcel.find()
                session.commit()

    assert is_within(way.per(1), A_SUBMIT), way.per(1)
    assert set(way.files) == drawn("A submit")


def test_the_page_names_files_that_are_there():
    named = drawn("A job") | drawn("A submit")

    assert named
    assert [file for file in named if not (PACKAGE / file).is_file()] == []

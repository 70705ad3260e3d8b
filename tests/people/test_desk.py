"""Questions and acts of people need a desk and no app; their answers are frozen values."""

from dataclasses import FrozenInstanceError, fields
from datetime import timedelta

import pytest
from sqlalchemy.orm import sessionmaker

from statejobs import Domain, JobState
from statejobs.declare.registry import Registry
from statejobs.people.acts import cancel_job, retry_job, why_no_retry
from statejobs.people.desk import Desk
from statejobs.people.history import AttemptEntry, StepEntry
from statejobs.people.jobs import job_list, job_page
from statejobs.people.machines import machine_of
from statejobs.people.named import Named
from statejobs.people.records import record_page
from statejobs.people.status import status_of
from statejobs.store.queries import JobQueries
from statejobs.store.store import Store
from statejobs.telemetry import Telemetry
from tests.cli.gallery import fill
from tests.support.clock import ManualClock, manual_sources
from tests.support.leaflets import Leaflet, Poster
from tests.support.worker_app import Crate, Parcel, Task


@pytest.fixture
def desk(database_url):
    """A desk on the gallery, made by hand."""
    with fill(database_url) as app:
        registry = Registry(
            [Domain("all", resources=[Task, Parcel, Crate, Leaflet, Poster])]
        )
        queues = {"work": 4}
        yield Desk(
            registry=registry,
            store=Store(app.engine),
            queries=JobQueries(app.engine, Named(registry, queues, app.engine.dialect)),
            sources=manual_sources(ManualClock()),
            open_session=sessionmaker(app.engine),
            queues=queues,
            lease=timedelta(seconds=30),
            telemetry=Telemetry(),
        )


def test_a_desk_made_by_hand_answers_everything(desk):
    page = job_page(desk, desk.queries.job(3))
    record = record_page(desk, desk.registry.resource("Task"), (3,))

    assert (page.job.state, page.no_retry) == (JobState.DISCARDED, None)
    assert [way.name for way in record.transitions if way.available] == [
        "retry",
        "cancel",
    ]
    assert [job.id for job in record.jobs] == [3]
    assert [queue.queue for queue in status_of(desk, "by hand").queues][:2] == [
        "work",
        "slow",
    ]
    assert machine_of(Task.__statejobs__.spec).initial == "draft"


def test_a_desk_made_by_hand_acts(desk):
    assert why_no_retry(desk, 9) == "a guard of 'retry' says no now."
    assert retry_job(desk, 3) is JobState.QUEUED
    assert cancel_job(desk, 3, reason="no need") is JobState.CANCELLED

    assert record_page(desk, desk.registry.resource("Task"), (3,)).state == "failed"


def test_an_answer_cannot_be_changed(desk):
    answers = [
        job_list(desk, limit=1),
        *job_list(desk, limit=1).jobs,
        status_of(desk, "it"),
    ]

    for answer in answers:
        with pytest.raises(FrozenInstanceError):
            setattr(answer, fields(answer)[0].name, None)


def test_an_event_begins_with_its_kind_and_its_time(desk):
    """Their JSON has its keys in the order of the fields."""
    timeline = record_page(desk, desk.registry.resource("Task"), (1,)).timeline

    assert {type(event) for event in timeline} == {AttemptEntry, StepEntry}
    assert [event.kind for event in timeline].count("attempt") == 1
    assert [[field.name for field in fields(event)][:2] for event in timeline] == [
        ["kind", "at"]
    ] * len(timeline)


def test_no_record_has_no_page(desk):
    assert record_page(desk, desk.registry.resource("Task"), (10**30,)) is None

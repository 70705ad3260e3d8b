"""Subscribers hear of the events that they ask for, and none is made for nobody."""

import ast
import logging
from pathlib import Path

import pytest

import statejobs
from statejobs import Event, Happening
from statejobs.events import DatabaseBack, JobsClaimed, JobStale, KeyHeld
from statejobs.telemetry import Telemetry
from tests.support.events import EVENTS

PACKAGE = Path(statejobs.__file__).parent
BEFORE_CLASSES = {
    "WORKER_STARTED": ("worker.started", "node_id"),
    "WORKER_STOPPED": ("worker.stopped", "node_id"),
    "JOBS_CLAIMED": ("jobs.claimed", "queue count"),
    "JOB_STARTED": ("job.started", "job"),
    "JOB_ENDED": (
        "job.ended",
        "job outcome state duration reason run_at failure is_overtaken",
    ),
    "JOB_LATE": ("job.late", "job"),
    "JOB_POSTPONED": ("job.postponed", "job"),
    "JOB_STALE": ("job.stale", "job_id reason"),
    "JOB_RESCUED": ("job.rescued", "job state"),
    "JOB_ABANDONED": ("job.abandoned", "job"),
    "KEY_HELD": ("key.held", "key reason seconds"),
    "LEASES_LOST": ("leases.lost", "job_ids"),
    "PRUNED": ("pruned", "jobs attempts history"),
    "CLOCK_SET": ("clock.set", "seconds offset"),
    "DATABASE_AWAY": ("database.away", "error"),
    "DATABASE_BACK": ("database.back", ""),
}
"""Names and fields that subscribers of then read."""


@pytest.fixture
def telemetry():
    """One that nobody listens to yet."""
    return Telemetry()


@pytest.fixture
def heard():
    """What a subscriber was told, in order."""
    return []


def claim(telemetry):
    """Tell of one event."""
    telemetry.emit(JobsClaimed, queue="default", count=2)


def test_a_subscriber_hears_of_the_classes_that_it_asks_for(telemetry, heard):
    telemetry.subscribe(heard.append, JobsClaimed, JobStale)

    claim(telemetry)
    telemetry.emit(DatabaseBack)
    telemetry.emit(JobStale, job_id=1, reason="gone")

    assert heard == [
        JobsClaimed(queue="default", count=2),
        JobStale(job_id=1, reason="gone"),
    ]


@pytest.mark.parametrize("asked", [(), (Happening,)], ids=["none", "their base"])
def test_a_subscriber_that_asks_for_no_class_or_their_base_hears_of_all(
    telemetry, heard, asked
):
    telemetry.subscribe(heard.append, *asked)

    claim(telemetry)
    telemetry.emit(DatabaseBack)

    assert [type(one) for one in heard] == [JobsClaimed, DatabaseBack]


def test_all_are_told_of_the_same_object_in_the_order_in_which_they_came(
    telemetry, heard
):
    telemetry.subscribe(lambda event: heard.append(("first", event)), JobsClaimed)
    telemetry.subscribe(lambda event: heard.append(("second", event)))

    claim(telemetry)

    (first, one), (second, other) = heard
    assert (first, second) == ("first", "second")
    assert one is other


def test_no_object_is_made_when_nobody_asked_for_its_class(telemetry, heard):
    made = []
    telemetry.subscribe(heard.append, JobStale)

    class Counted(Happening, frozen=True, kw_only=True):
        event = "counted"

        def __post_init__(self):
            made.append(self)

    telemetry.emit(Counted)
    assert made == []

    telemetry.subscribe(heard.append, Counted)
    telemetry.emit(Counted)
    assert heard == made
    assert len(made) == 1


def test_who_subscribes_after_an_event_hears_of_the_next(telemetry, heard):
    claim(telemetry)
    end = telemetry.subscribe(heard.append, JobsClaimed)

    claim(telemetry)
    end()
    claim(telemetry)

    assert len(heard) == 1


def test_who_subscribes_while_an_event_is_told_hears_of_the_next(telemetry, heard):
    def invite(_event):
        end()
        telemetry.subscribe(heard.append, JobsClaimed)

    end = telemetry.subscribe(invite, JobsClaimed)

    claim(telemetry)
    assert heard == []
    claim(telemetry)

    assert len(heard) == 1


def test_the_same_subscriber_of_the_same_events_is_taken_once(telemetry, heard):
    subscriber = heard.append
    for _ in range(2):
        telemetry.subscribe_once(subscriber, JobsClaimed, JobStale)

    claim(telemetry)

    assert len(heard) == 1


def test_a_subscriber_that_raises_is_logged_and_goes_on_like_the_others(
    telemetry, heard, caplog
):
    def fail(_event):
        raise ValueError("no")

    telemetry.subscribe(fail, JobsClaimed)
    telemetry.subscribe(heard.append)

    with caplog.at_level(logging.ERROR, "statejobs"):
        claim(telemetry)
        claim(telemetry)

    assert len(heard) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "a subscriber of jobs.claimed failed"
    ] * 2


def test_an_event_cannot_be_changed():
    event = KeyHeld(key="order.charge", reason="no column", seconds=1.0)

    with pytest.raises(AttributeError):
        event.key = "order.ship"


def test_a_subscriber_from_before_the_classes_reads_names_and_fields(telemetry, heard):
    def count(happening):
        if happening.event is Event.JOBS_CLAIMED:
            heard.append(happening.fields["count"])

    telemetry.subscribe(count)
    claim(telemetry)
    telemetry.emit(DatabaseBack)

    assert heard == [2]


def test_every_event_from_before_the_classes_has_one_with_its_fields():
    classes = {event.event: event for event in EVENTS}

    assert list(Event.__members__) == list(BEFORE_CLASSES)
    for member in Event:
        name, names = BEFORE_CLASSES[member.name]
        known = dict.fromkeys(names.split())
        made = classes[member](**known)
        assert member == name
        assert made.event is member
        assert made.fields == {**made.fields, **known}
        assert made.fields.keys() >= known.keys()


def test_every_event_has_a_name_of_its_own_and_is_told_somewhere():
    emitted = {
        call.args[0].id
        for module in PACKAGE.rglob("*.py")
        for call in ast.walk(ast.parse(module.read_text()))
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "emit"
    }

    assert len({event.event for event in EVENTS}) == len(EVENTS)
    assert emitted == {event.__name__ for event in EVENTS}


def test_an_event_is_named_after_its_class_where_nothing_else_is_said():
    class WorkerHasClosed(Happening, frozen=True, kw_only=True):
        """A worker has closed."""

    assert WorkerHasClosed.event == "worker.has_closed"

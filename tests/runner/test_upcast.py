"""Jobs that an older version of the code enqueued, with arguments that no longer fit."""

import pytest
from sqlalchemy import update

from statejobs import JobState
from statejobs.store.tables import jobs
from tests.support.parcels import Label, Letter, enqueue, job_of, script


@pytest.fixture
def old_job(app):
    """The key of a letter whose job holds the arguments of an older version."""
    (key,) = enqueue(app, Letter, "put_on_scale")
    with app.engine.begin() as connection:
        connection.execute(update(jobs).values(args='{"text":"fragile"}'))
    return key


def test_upcast_makes_arguments_of_today_from_those_that_no_longer_fit(app, old_job):
    weighed = []
    script.weigh = lambda _letter, _ctx, label: weighed.append(label)
    script.upcast = lambda old: {"label": {"text": old["text"], "copies": 2}}

    app.drain()

    assert weighed == [Label("fragile", copies=2)]
    assert job_of(app, Letter, old_job).state is JobState.COMPLETED


def test_arguments_that_fit_are_not_shown_to_upcast(app):
    enqueue(app, Letter, "put_on_scale", label=Label("fragile"))
    shown = []
    script.upcast = shown.append

    assert app.drain().counts == {"complete": 1}
    assert shown == []


@pytest.mark.parametrize(
    ("upcast", "error"),
    [
        (lambda old: old, "ArgumentsError"),
        (lambda old: old["gone"], "KeyError"),
        (lambda _old: {1, 2}, "ArgumentsError"),
    ],
    ids=["mends nothing", "raises", "returns no mapping"],
)
def test_an_upcast_that_does_not_help_fails_the_attempt(
    app, clock, old_job, upcast, error
):
    script.upcast = upcast

    app.drain()
    if not app.queries.attempts(job_of(app, Letter, old_job).id):
        clock.advance(minutes=13)  # no worker of another version came
        app.drain()

    job = job_of(app, Letter, old_job)
    (attempt,) = app.queries.attempts(job.id)
    assert attempt["error_type"].endswith(error)
    assert job.state is JobState.FAILED

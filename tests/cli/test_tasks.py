"""The command line on jobs that belong to no record."""

import pytest

from statejobs import acting_as
from statejobs.cli.settings import actor
from statejobs.values.job import JobState
from tests.cli.conftest import Shell
from tests.support.errands import DAY, Base, errand, make_app, plain, reset, script


@pytest.fixture
def home(database_url):
    """An app whose first job was discarded, the second completed, the third waits."""
    app = make_app(database_url)
    app.create_all()
    Base.metadata.create_all(app.engine)
    script.errand = lambda *_: 1 / 0
    with app.session() as session, acting_as("user:7"):
        errand.enqueue(session, DAY, note="milk")
        plain.enqueue(session, 2)
        session.commit()
    for _ in range(3):
        app.drain()
        if app.queries.job(1).state is JobState.FAILED:
            app.retry_job(1)
    with app.session() as session:
        plain.enqueue(session, 3)
        session.commit()
    yield app
    reset()
    app.engine.dispose()


@pytest.fixture
def typed(home):
    url = home.engine.url.render_as_string(hide_password=False)
    return Shell(app="tests.support.errands:make_app", database=url)


def test_list_shows_them_without_a_record(typed):
    result = typed("job", "list", "--key", "errand.run")

    assert result.exit_code == 0
    (_, line) = result.stdout.splitlines()
    assert line.split()[:5] == ["1", "discarded", "errand.run", "default", "3/3"]


def test_list_names_the_closest_key_of_a_task(typed):
    result = typed("job", "list", "--key", "errand.plan")

    assert result.exit_code == 3
    assert "did you mean 'errand.plain'?" in result.stderr


def test_show_tells_its_arguments_and_attempts_and_no_history(typed):
    result = typed("job", "show", "1")

    assert result.exit_code == 0
    assert '{"day": "2030-01-01", "note": "milk"}' in result.stdout
    assert "user:7" in result.stdout
    assert "ZeroDivisionError" in result.stdout
    assert "History" not in result.stdout
    assert "statejobs job retry 1" in result.stdout


def test_show_as_json(typed):
    document = typed.json("job", "show", "1")

    assert document["job"]["args"] == {"day": "2030-01-01", "note": "milk"}
    assert (document["job"]["resource"], document["job"]["record_id"]) == (None, None)
    assert [row["attempt"] for row in document["attempts"]] == [1, 2, 3]
    assert document["history"] == []


def test_retry_lets_discarded_and_completed_jobs_go_on(typed, home):
    document = typed.json("job", "retry", "1", "2")

    assert [job["state"] for job in document["jobs"]] == ["queued", "queued"]
    script.errand = lambda *_: None
    assert home.drain().counts == {"complete": 3}


def test_cancel_of_a_waiting_job(typed, home):
    result = typed("job", "cancel", "3", "--reason", "not today")

    assert result.exit_code == 0
    job = home.queries.job(3)
    assert job.state is JobState.CANCELLED
    assert job.reason == f"not today (asked by {actor()})"


def test_cancel_of_an_ended_job_is_refused(typed):
    result = typed("job", "cancel", "2")

    assert result.exit_code == 4
    assert "there is nothing left to cancel" in result.stderr


def test_status_counts_them(typed):
    document = typed.json("status")

    (queue,) = document["queues"]
    assert (queue["states"]["discarded"], queue["states"]["queued"]) == (1, 1)

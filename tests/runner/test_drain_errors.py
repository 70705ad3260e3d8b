"""What `drain` shows and raises of attempts that failed."""

import pytest

from statejobs import Domain, StateJobs, task

CALLS = []


@task("drain.fails", max_attempts=2)
def fails():
    raise LookupError("nothing there")


@task("drain.works")
def works():
    CALLS.append("works")


@task("drain.waits", max_attempts=2)
async def fails_async():
    raise LookupError("nothing there")


@pytest.fixture
def app(database_url):
    CALLS.clear()
    with StateJobs(
        database_url, domains=[Domain("errands", tasks=[fails, works, fails_async])]
    ) as app:
        app.create_all()
        yield app


def enqueue(app, *tasks):
    with app.session() as session:
        for each in tasks:
            each.enqueue(session)
        session.commit()


def test_the_result_has_the_traceback_of_each_attempt_that_failed(app):
    enqueue(app, works, fails)

    result = app.drain()

    assert result.counts == {"complete": 1, "fail": 1}
    (traceback,) = result.tracebacks
    assert traceback.startswith("attempt 1 of job 2 (drain.fails): fail\nTraceback")
    assert 'raise LookupError("nothing there")' in traceback


@pytest.mark.parametrize("body", [fails, fails_async])
def test_what_an_action_raised_is_raised_when_asked_for(app, body):
    enqueue(app, body)

    with pytest.raises(LookupError, match="nothing there") as caught:
        app.drain(raise_errors=True)

    assert caught.value.__notes__ == [f"drain: attempt 1 of job 1 ({body.key}): fail"]
    assert caught.traceback[-1].name == body.name


def test_the_attempt_is_recorded_before_it_is_raised(app):
    enqueue(app, fails)

    with pytest.raises(LookupError):
        app.drain(raise_errors=True)

    assert app.queries.job(1).state == "failed"
    (attempt,) = app.queries.attempts(1)
    assert attempt["error_type"] == "LookupError"


def test_what_has_not_run_then_stays_queued(app):
    enqueue(app, fails, works)

    with pytest.raises(LookupError):
        app.drain(raise_errors=True)

    assert CALLS == []
    assert app.drain(raise_errors=True).counts == {"complete": 1}
